//! Capabilities: what the host offers to guests.
//!
//! A capability implements its rules and does not know WebAssembly; [`crate::plugin`]
//! connects it to the contract.

pub mod kv;
pub mod log;
pub mod metrics;
pub mod stdio;
