//! Wall-clock time, as the store records it.

use std::time::Duration;

/// Milliseconds since the Unix epoch.
pub type UnixMs = i64;

/// Returns the time of the system clock, which is comparable across restarts.
pub fn unix_now() -> UnixMs {
    jiff::Timestamp::now().as_millisecond()
}

/// Returns the time `time` ago.
pub fn unix_ago(time: Duration) -> UnixMs {
    unix_now().saturating_sub(milliseconds(time))
}

/// Returns the time `time` from now.
pub fn unix_from_now(time: Duration) -> UnixMs {
    unix_now().saturating_add(milliseconds(time))
}

fn milliseconds(time: Duration) -> UnixMs {
    UnixMs::try_from(time.as_millis()).unwrap_or(UnixMs::MAX)
}
