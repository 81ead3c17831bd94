//! Capabilities: functions that the host provides to guests.
//!
//! A capability implements its rules without knowledge of WebAssembly; [`crate::plugin`]
//! connects it to the contract.

pub mod kv;
pub mod log;
pub mod metrics;
mod spans;
pub mod stdio;
