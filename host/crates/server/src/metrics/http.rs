//! Counters of HTTP responses.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Responses by listener and status.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// Responses of the webhook listener.
    pub webhooks: StatusCounters,
    /// Responses of the admin listener.
    pub admin: StatusCounters,
}

/// Responses by status. Lock-free, because every call counts here.
#[derive(Debug)]
pub struct StatusCounters([AtomicU64; 500]);

/// The lowest status; status codes are 100 to 599.
const FIRST_STATUS: u16 = 100;

impl Default for StatusCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl StatusCounters {
    /// Counts a response with this status.
    pub fn count(&self, status: u16) {
        let counter =
            status.checked_sub(FIRST_STATUS).and_then(|index| self.0.get(usize::from(index)));
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Returns the statuses with at least one response, and their counts.
    pub(super) fn nonzero_counts(&self) -> impl Iterator<Item = (u16, u64)> {
        (FIRST_STATUS..)
            .zip(&self.0)
            .map(|(status, counter)| (status, counter.load(Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}
