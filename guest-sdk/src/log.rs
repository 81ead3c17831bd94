//! Messages for the operator. They go to the host's log, with the plugin's name and the
//! call's id.
//!
//! Logs live longer than calls and are read by people. Do not log callers' numbers or
//! transcripts at [`info`] and above. The host cuts a message at 4 KiB, and drops lines
//! beyond 100 in one call of a hook.
//!
//! ```no_run
//! # use plugboard_sdk::log;
//! # let days = 3;
//! log::info("closed today");
//! log::warn(format_args!("the list is {days} days old"));
//! ```

use std::fmt::Display;

use crate::host;

/// The severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Each step of the plugin.
    Trace,
    /// Details for the plugin's author.
    Debug,
    /// Normal events for the operator.
    Info,
    /// An unexpected condition that is not a failure.
    Warn,
    /// A failure of an operation.
    Error,
}

/// Writes a line at this level.
pub fn write(level: Level, message: impl Display) {
    host::log_write(level, &message.to_string());
}

/// Writes a line about a single step.
pub fn trace(message: impl Display) {
    write(Level::Trace, message);
}

/// Writes a line for the plugin's author.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Writes a line for the operator.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Writes a line about an unexpected condition.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// Writes a line about a failure. If the plugin then traps, the host adds the last such
/// line to the error.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
