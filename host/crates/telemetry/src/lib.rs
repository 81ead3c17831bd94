//! The log and the traces.

#![forbid(unsafe_code)]

pub mod log;
pub mod traces;
