//! What the host lends a guest. A capability knows its rules and nothing of
//! WebAssembly; [`crate::plugin`] connects it to the contract.

pub mod kv;
pub mod log;
pub mod metrics;
pub mod stdio;
