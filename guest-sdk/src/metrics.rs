//! Metrics for the operator's monitoring, exported as `plugboard_guest_PLUGIN_NAME`. The
//! settings grant it: `[grants] metrics = true`.
//!
//! Each new label value makes another series. Series stay until the host restarts, and a
//! plugin can have 200. Use labels such as the platform or the outcome, never a caller's
//! number.
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

/// The error of a metric that was not recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The settings do not grant metrics.
    NotGranted,
    /// A name, label or value is invalid: names match `[a-zA-Z_][a-zA-Z0-9_]*`, and names
    /// and label values have at most 64 bytes. A metric has at most 8 labels. Its name
    /// belongs either to a counter or to a histogram.
    Invalid(String),
    /// The plugin has reached its limit of series.
    TooMany,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => f.write_str(
                "metrics: not granted; the plugin's settings need `[grants] metrics = true`",
            ),
            Self::Invalid(why) => write!(f, "metrics: invalid: {why}"),
            Self::TooMany => f.write_str("metrics: the plugin has reached its limit of series"),
        }
    }
}

impl std::error::Error for Error {}

/// Adds to a counter.
///
/// # Errors
///
/// If the host does not record it; see [`Error`].
pub fn count(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), Error> {
    host::metrics_count(name, labels, by)
}

/// Records a value in a histogram. The buckets suit durations in seconds, from a millisecond
/// to an hour.
///
/// # Errors
///
/// If the host does not record it; see [`Error`].
pub fn observe(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), Error> {
    host::metrics_observe(name, labels, value)
}
