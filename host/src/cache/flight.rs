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

use super::key::Key;
use super::{Fit, Kept};

/// What came of a computation.
#[derive(Clone)]
pub(super) enum Landing {
    /// It is under way.
    Flying,
    /// A verdict that others may use whose call it fits.
    Kept(Fit, Arc<Kept>),
    /// A failure, or a verdict for this call only.
    Nothing,
}

/// The computations under way.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<Key, watch::Receiver<Landing>>>);

/// Which part a call has in a computation.
pub(super) enum Part<'a> {
    /// It is the one that asks the plugin.
    Lead(Lead<'a>),
    /// Another one asked.
    Landed(Landing),
    /// Another one asks, but there is no more time to do nothing but wait for it.
    Late(Flight),
}

/// What another one asks.
pub(super) struct Flight(watch::Receiver<Landing>);

impl Flight {
    /// What comes of it; None when its leader's call was cancelled.
    pub(super) async fn landed(&mut self) -> Option<Landing> {
        let landed = self.0.wait_for(|landing| !matches!(landing, Landing::Flying)).await;
        landed.ok().map(|landing| landing.clone())
    }
}

/// The duty to ask the plugin. Dropped without a word (the call was cancelled),
/// it goes to one of those who wait.
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    key: Key,
    landing: watch::Sender<Landing>,
}

impl Flights {
    /// Joins the computation for a key, or begins it.
    pub(super) async fn join(&self, key: &[u8], until: Instant) -> Part<'_> {
        loop {
            let mut flight = match self.lock().entry(key.into()) {
                Entry::Occupied(flight) => Flight(flight.get().clone()),
                Entry::Vacant(place) => {
                    let (landing, flight) = watch::channel(Landing::Flying);
                    place.insert(flight);
                    return Part::Lead(Lead { flights: self, key: key.into(), landing });
                }
            };
            match timeout_at(until, flight.landed()).await {
                Ok(Some(landing)) => return Part::Landed(landing),
                Ok(None) => {}
                Err(_) => return Part::Late(flight),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Landing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lead<'_> {
    /// Tells those who wait.
    pub(super) fn land(self, landing: Landing) {
        self.landing.send_replace(landing);
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // Before the sender is gone, so that who is woken by that finds the place
        // free.
        self.flights.lock().remove(&self.key);
    }
}
