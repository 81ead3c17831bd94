//! Words for the operator, in the host's log under the plugin's name and the
//! call's id. Leave callers' numbers and words out at [`info`] and above.
//!
//! ```no_run
//! # use plugboard_sdk::log;
//! # let days = 3;
//! log::info("closed today");
//! log::warn(format_args!("the list is {days} days old"));
//! ```

use std::fmt::Display;

use crate::host;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every step.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// Writes a line.
pub fn write(level: Level, message: impl Display) {
    host::log_write(level, &message.to_string());
}

/// Writes a line about every step.
pub fn trace(message: impl Display) {
    write(Level::Trace, message);
}

/// Writes a line for the author.
pub fn debug(message: impl Display) {
    write(Level::Debug, message);
}

/// Writes a line for the operator.
pub fn info(message: impl Display) {
    write(Level::Info, message);
}

/// Writes a line about something odd.
pub fn warn(message: impl Display) {
    write(Level::Warn, message);
}

/// Writes a line about a failure. The host also shows the last one with a trap.
pub fn error(message: impl Display) {
    write(Level::Error, message);
}
