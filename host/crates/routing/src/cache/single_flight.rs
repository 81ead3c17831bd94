//! One computation for many equal calls that come at the same time.
//!
//! The first one leads, the others wait for what comes of it. Which calls are
//! equal can only be guessed before the plugin has decided: by all fields that
//! it was seen to depend on so far. So who waited looks at the verdict's own
//! fields before using it, and otherwise asks the plugin himself; all who waited
//! do so at once, for a plugin that failed once or gave no leave to reuse would
//! else be asked by one after the other.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::key::CacheKey;
use super::{CachedVerdict, VerdictKey};

/// What came of a computation.
#[derive(Clone)]
pub(super) enum FlightResult {
    /// It is under way.
    Pending,
    /// A verdict that others may use whose call it fits.
    Cached(VerdictKey, Arc<CachedVerdict>),
    /// A failure, or a verdict for this call only.
    NotShareable,
}

/// The computations under way.
#[derive(Default)]
pub(super) struct SingleFlight(Mutex<HashMap<CacheKey, watch::Receiver<FlightResult>>>);

/// Which part a call has in a computation.
pub(super) enum Joined<'a> {
    /// It is the one that asks the plugin.
    Leader(Leader<'a>),
    /// Another one asked.
    Finished(FlightResult),
    /// Another one asks, but there is no more time to do nothing but wait for it.
    TimedOut(Follower),
}

/// What another one asks.
pub(super) struct Follower(watch::Receiver<FlightResult>);

impl Follower {
    /// What comes of it; None when its leader's call was cancelled.
    pub(super) async fn wait(&mut self) -> Option<FlightResult> {
        let result = self.0.wait_for(|landing| !matches!(landing, FlightResult::Pending)).await;
        result.ok().map(|result| result.clone())
    }
}

/// The duty to ask the plugin. Dropped without a word (the call was cancelled),
/// it goes to one of those who wait.
pub(super) struct Leader<'a> {
    single_flight: &'a SingleFlight,
    key: CacheKey,
    sender: watch::Sender<FlightResult>,
}

impl SingleFlight {
    /// Joins the computation for a key, or begins it.
    pub(super) async fn join(&self, key: &[u8], deadline: Instant) -> Joined<'_> {
        loop {
            let mut follower = match self.lock().entry(key.into()) {
                Entry::Occupied(entry) => Follower(entry.get().clone()),
                Entry::Vacant(entry) => {
                    let (sender, receiver) = watch::channel(FlightResult::Pending);
                    entry.insert(receiver);
                    return Joined::Leader(Leader { single_flight: self, key: key.into(), sender });
                }
            };
            match timeout_at(deadline, follower.wait()).await {
                Ok(Some(result)) => return Joined::Finished(result),
                Ok(None) => {}
                Err(_) => return Joined::TimedOut(follower),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, watch::Receiver<FlightResult>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leader<'_> {
    /// Tells those who wait.
    pub(super) fn complete(self, result: FlightResult) {
        self.sender.send_replace(result);
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        // Before the sender is gone, so that who is woken by that finds the place
        // free.
        self.single_flight.lock().remove(&self.key);
    }
}
