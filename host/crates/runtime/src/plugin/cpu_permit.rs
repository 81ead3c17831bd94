//! CPU permits: cooperative scheduling for guests that run longer than one tick.
//!
//! Guests run on the async worker threads. A guest that has used a full
//! [`TICK`](crate::engine::TICK) yields, and resumes only with a permit. There are fewer
//! permits than worker threads, so CPU-bound guests cannot starve the listeners. A guest
//! releases its permit when it blocks on a host call, after [`TIME_SLICE`], and at the end
//! of the call.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::engine::{CpuPermit, Engine, Priority, TIME_SLICE};

/// CPU time and permit of one guest. Shared between the call, which polls the guest, and
/// the epoch callback.
pub(super) struct CpuScheduler {
    priority: Priority,
    inner: Mutex<CpuSchedulerState>,
}

struct CpuSchedulerState {
    permit: Option<(CpuPermit, Instant)>,
    /// True if the guest is pending because it yielded.
    is_yielding: bool,
    /// CPU time of the guest until the end of its last poll.
    cpu_time: Duration,
    last_poll: Instant,
}

impl CpuScheduler {
    /// Creates the scheduler of a guest that starts now, with a permit if the plugin is
    /// CPU-bound.
    pub(super) fn new(priority: Priority, permit: Option<CpuPermit>) -> Self {
        let now = Instant::now();
        let permit = permit.map(|permit| (permit, now));
        let inner = CpuSchedulerState {
            permit,
            is_yielding: false,
            cpu_time: Duration::ZERO,
            last_poll: now,
        };
        Self { priority, inner: Mutex::new(inner) }
    }

    /// Returns the priority class of the guest.
    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    /// Runs the guest, measures its CPU time, and releases its permit when it waits for
    /// the host.
    pub(super) async fn run<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        poll_fn(|context| {
            self.inner.lock().last_poll = Instant::now();
            let poll = guest.as_mut().poll(context);
            if poll.is_pending() {
                let mut inner = self.inner.lock();
                let elapsed = inner.last_poll.elapsed();
                inner.cpu_time += elapsed;
                if !inner.is_yielding {
                    // The guest waits for the host and needs no thread.
                    inner.permit = None;
                }
            }
            poll
        })
        .await
    }

    /// Returns the CPU time of the guest until now. Called while the guest is polled.
    pub(super) fn cpu_time(&self, now: Instant) -> Duration {
        let inner = self.inner.lock();
        inner.cpu_time + now.saturating_duration_since(inner.last_poll)
    }

    /// Yields the thread, and resolves when the guest may continue.
    pub(super) async fn yield_cpu(&self, engine: &Engine, now: Instant) {
        let is_within_slice = {
            let mut inner = self.inner.lock();
            inner.is_yielding = true;
            let acquired_at = inner.permit.as_ref().map(|(_, since)| *since);
            let is_within_slice =
                acquired_at.is_some_and(|since| now.duration_since(since) < TIME_SLICE);
            if !is_within_slice {
                inner.permit = None;
            }
            is_within_slice
        };
        if !is_within_slice {
            let permit = engine.acquire_cpu(self.priority).await;
            self.inner.lock().permit = permit.map(|permit| (permit, Instant::now()));
        }
        yield_now().await;
        self.inner.lock().is_yielding = false;
    }
}
