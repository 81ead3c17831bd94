//! The end of a run.

use std::io;

/// The reason why a run ended.
#[derive(Debug)]
pub enum SimulationEnd {
    /// All calls were played.
    Complete,
    /// A signal stopped the run.
    Interrupted,
    /// The maximum duration was reached.
    TimeLimitReached,
    /// The first connection failed, with this cause.
    Unreachable(String),
    /// An acknowledged event could not be recorded.
    RecordFailed(io::Error),
}
