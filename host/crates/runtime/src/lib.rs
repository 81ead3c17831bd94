//! Runs plugins: the WebAssembly engine, loading, invocation, and the capabilities that
//! guests import.

pub mod capability;
pub mod engine;
pub mod plugin;
