//! Single-flight: concurrent cache misses for the same key run the plugin once.
//!
//! The first request becomes the leader; followers wait for its result. A verdict's vary
//! set is known only after the plugin has run, so the flight key is a guess: the values
//! of every field that the plugin has named so far. A follower therefore checks that the
//! verdict holds for its own call, and runs the plugin itself if it does not. If the
//! leader fails, all followers run at once, not one after another. If the leader is
//! cancelled, one follower takes over.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::vary::{CacheKey, CachedAnswer};
use plugboard_core::decision::Verdict;

/// The result of a flight.
#[derive(Clone)]
pub(super) enum FlightResult {
    /// The leader is running the plugin.
    Pending,
    /// A verdict, for followers whose call it matches.
    Cached(CachedAnswer<Arc<Verdict>>),
    /// An error, or a verdict for the leader's call only.
    NotShareable,
}

/// The flights under way.
#[derive(Default)]
pub(super) struct SingleFlight(Mutex<HashMap<CacheKey, watch::Receiver<FlightResult>>>);

/// A request's part in a flight.
pub(super) enum Joined<'a> {
    /// The request leads the flight, and runs the plugin.
    Leader(Leader<'a>),
    /// The leader has completed the flight.
    Finished(FlightResult),
    /// The leader is still running the plugin, and the time to wait idly is over.
    TimedOut(Follower),
}

/// A request that waits for the leader.
pub(super) struct Follower(watch::Receiver<FlightResult>);

impl Follower {
    /// Waits for the result; `None` if the leader was cancelled.
    pub(super) async fn wait(&mut self) -> Option<FlightResult> {
        let result = self.0.wait_for(|result| !matches!(result, FlightResult::Pending)).await;
        result.ok().map(|result| result.clone())
    }
}

/// The request that runs the plugin. If it is dropped before [`Leader::complete`], a
/// follower becomes the leader.
pub(super) struct Leader<'a> {
    single_flight: &'a SingleFlight,
    key: CacheKey,
    sender: watch::Sender<FlightResult>,
}

impl SingleFlight {
    /// Begins the flight of a key, or waits for its result until the deadline.
    pub(super) async fn join(&self, key: &CacheKey, deadline: Instant) -> Joined<'_> {
        loop {
            let mut follower = match self.0.lock().entry(key.clone()) {
                Entry::Occupied(entry) => Follower(entry.get().clone()),
                Entry::Vacant(entry) => {
                    let (sender, receiver) = watch::channel(FlightResult::Pending);
                    entry.insert(receiver);
                    return Joined::Leader(Leader {
                        single_flight: self,
                        key: key.clone(),
                        sender,
                    });
                }
            };
            match timeout_at(deadline, follower.wait()).await {
                Ok(Some(result)) => return Joined::Finished(result),
                Ok(None) => {}
                Err(_) => return Joined::TimedOut(follower),
            }
        }
    }
}

impl Leader<'_> {
    /// Returns the key of the flight.
    pub(super) fn key(&self) -> &CacheKey {
        &self.key
    }

    /// Passes the result to the followers.
    pub(super) fn complete(self, result: FlightResult) {
        self.sender.send_replace(result);
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        // The key is removed before the sender is dropped, so that a woken follower finds the
        // key vacant.
        self.single_flight.0.lock().remove(&self.key);
    }
}
