//! A guest's turn among those that compute for long (see [`crate::engine`]): it
//! asks for one when it has computed for a tick, keeps it for a while, and gives
//! it up when it waits for the host, when its while is over, or with its call.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use crate::engine::{Engine, Permit, Queue, TURN};

/// Shared between the call, which polls the guest, and the engine's tick.
pub(super) struct Turn {
    queue: Queue,
    inner: Mutex<Inner>,
}

struct Inner {
    permit: Option<(Permit, Instant)>,
    /// Whether the guest is off its thread because of a tick.
    renewing: bool,
    /// How long it has computed, up to the last time it was polled.
    computed: Duration,
    polled: Instant,
}

impl Turn {
    /// The turn of a guest that starts now, perhaps with a permit taken before.
    pub(super) fn new(queue: Queue, permit: Option<Permit>) -> Self {
        let polled = Instant::now();
        let permit = permit.map(|permit| (permit, polled));
        let inner = Inner { permit, renewing: false, computed: Duration::ZERO, polled };
        Self { queue, inner: Mutex::new(inner) }
    }

    /// Whom the guest works for.
    pub(super) fn queue(&self) -> Queue {
        self.queue
    }

    /// Runs the guest, with an eye on what it does with its time.
    pub(super) async fn watch<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        poll_fn(|context| {
            self.lock().polled = Instant::now();
            let polled = guest.as_mut().poll(context);
            if polled.is_pending() {
                let mut inner = self.lock();
                let computed = inner.polled.elapsed();
                inner.computed += computed;
                if !inner.renewing {
                    // It waits for the host, for which it needs no thread.
                    inner.permit = None;
                }
            }
            polled
        })
        .await
    }

    /// How long the guest has computed in all. Called while it does.
    pub(super) fn computed(&self, now: Instant) -> Duration {
        let inner = self.lock();
        inner.computed + now.saturating_duration_since(inner.polled)
    }

    /// Gives the thread back, and resolves when the guest may go on.
    pub(super) async fn renew(&self, engine: &Engine, now: Instant) {
        let valid = {
            let mut inner = self.lock();
            inner.renewing = true;
            let since = inner.permit.as_ref().map(|(_, since)| *since);
            let valid = since.is_some_and(|since| now.duration_since(since) < TURN);
            if !valid {
                inner.permit = None;
            }
            valid
        };
        if !valid {
            let permit = engine.turn(self.queue).await;
            self.lock().permit = permit.map(|permit| (permit, Instant::now()));
        }
        yield_now().await;
        self.lock().renewing = false;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
