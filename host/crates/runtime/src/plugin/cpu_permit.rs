//! A guest's turn among those that compute for long (see [`crate::engine`]): it
//! asks for one when it has computed for a tick, keeps it for a while, and gives
//! it up when it waits for the host, when its while is over, or with its call.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::engine::{CpuPermit, Engine, Priority, TIME_SLICE};

/// Shared between the call, which polls the guest, and the engine's tick.
pub(super) struct CpuScheduler {
    priority: Priority,
    inner: Mutex<CpuSchedulerState>,
}

struct CpuSchedulerState {
    permit: Option<(CpuPermit, Instant)>,
    /// Whether the guest is off its thread because of a tick.
    is_yielding: bool,
    /// How long it has computed, up to the last time it was polled.
    cpu_time: Duration,
    last_poll: Instant,
}

impl CpuScheduler {
    /// The turn of a guest that starts now, perhaps with a permit taken before.
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

    /// Whom the guest works for.
    pub(super) fn priority(&self) -> Priority {
        self.priority
    }

    /// Runs the guest, with an eye on what it does with its time.
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
                    // It waits for the host, for which it needs no thread.
                    inner.permit = None;
                }
            }
            poll
        })
        .await
    }

    /// How long the guest has computed in all. Called while it does.
    pub(super) fn cpu_time(&self, now: Instant) -> Duration {
        let inner = self.inner.lock();
        inner.cpu_time + now.saturating_duration_since(inner.last_poll)
    }

    /// Gives the thread back, and resolves when the guest may go on.
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
