//! Figures for the operator's monitoring, under the plugin's name. The settings
//! grant it: `[grants] metrics = true`.
//!
//! Labels are kept for ever, and there may only be so many different ones: a
//! platform or an outcome is a label, a caller's number is none.
//!
//! ```no_run
//! # use plugboard_sdk::prelude::*;
//! # fn example() -> Result<()> {
//! metrics::count("calls", &[("platform", "avr")], 1)?;
//! metrics::observe("call_seconds", &[("platform", "avr")], 42.5)?;
//! # Ok(())
//! # }
//! ```

use std::fmt;

use crate::host;

/// Why a figure was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant it.
    NotGranted,
    /// The name or a label is not `[a-zA-Z_][a-zA-Z0-9_]*`, too long, or the name
    /// was used for the other kind of figure.
    Invalid(String),
    /// The plugin has as many different figures as it may have.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => f.write_str(
                "metrics: not granted; the plugin's settings need `[grants] metrics = true`",
            ),
            Self::Invalid(what) => write!(f, "metrics: invalid: {what}"),
            Self::TooMany => f.write_str("metrics: the plugin has as many figures as it may have"),
        }
    }
}

impl std::error::Error for Error {}

/// Adds to a counter.
///
/// # Errors
///
/// When the host does not take it.
pub fn count(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), Error> {
    host::metrics_count(name, labels, by)
}

/// Adds a value to a histogram. Its buckets suit seconds, from a millisecond to
/// an hour.
///
/// # Errors
///
/// When the host does not take it.
pub fn observe(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), Error> {
    host::metrics_observe(name, labels, value)
}
