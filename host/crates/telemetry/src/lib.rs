//! Telemetry of the process for operators: the log and OpenTelemetry traces.

#![forbid(unsafe_code)]

pub mod log;
pub mod traces;
