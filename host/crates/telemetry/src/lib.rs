//! What the process reports of itself to operators: the log and OpenTelemetry traces.

#![forbid(unsafe_code)]

pub mod log;
pub mod traces;
