//! Calls that were erased: no observer is told an event of theirs that came
//! before. What a window has of them is dropped; but as a page may still be on its
//! way from the store, every attempt asks here first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::store::Stored;
use crate::store::erase::{CallName, Reach};

/// Erasures that are remembered. Pages and windows are done with one after some
/// moments, and so many take longer than that.
const MOST: usize = 4_096;

/// Whether an event may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may.
    Given,
    /// Not now: its call is being erased, and it is not clear how far.
    Later,
    /// Never: it was erased.
    Never,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Erasures {
    state: Mutex<State>,
    /// Told of every erasure.
    count: watch::Sender<u64>,
    /// Told of every attempt that comes to its end.
    ended: Notify,
}

#[derive(Default)]
struct State {
    calls: HashMap<Arc<str>, Vec<Entry>>,
    /// The calls, the first ones first.
    order: VecDeque<(Arc<str>, u64)>,
    next: u64,
    /// What is being told.
    under_way: Vec<Arc<Stored>>,
}

struct Entry {
    number: u64,
    call: CallName,
    /// None: it is being erased.
    reach: Option<Reach>,
}

impl Erasures {
    /// Has nothing told of a call until it is clear what is erased.
    pub(super) fn hold(self: &Arc<Self>, call: CallName) -> Held {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        let id = Arc::clone(call.id());
        state.order.push_back((Arc::clone(&id), number));
        let entry = Entry { number, call: call.clone(), reach: None };
        state.calls.entry(id).or_default().push(entry);
        if state.order.len() > MOST
            && let Some((id, number)) = state.order.pop_front()
        {
            state.remove(&id, number);
        }
        drop(state);
        Held { erasures: Arc::clone(self), call, number, reach: None }
    }

    /// Word of every erasure.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    /// Whether an event was erased.
    pub(super) fn has(&self, event: &Stored) -> bool {
        self.state().leave(event) == Leave::Never
    }

    /// Lets an event be told, which is under way then as long as what is returned is
    /// there; else why not.
    pub(super) fn admit<'a>(&'a self, event: &'a Arc<Stored>) -> Result<UnderWay<'a>, Leave> {
        let mut state = self.state();
        match state.leave(event) {
            Leave::Given => {
                state.under_way.push(Arc::clone(event));
                Ok(UnderWay { erasures: self, event })
            }
            leave => Err(leave),
        }
    }

    /// Does something about an event unless that was or is being erased; nothing is
    /// erased meanwhile, so it must not take long.
    pub(super) fn unless<T>(&self, event: &Stored, act: impl FnOnce() -> T) -> Result<T, Leave> {
        let state = self.state();
        match state.leave(event) {
            Leave::Given => Ok(act()),
            leave => Err(leave),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&self, event: &Stored) -> Leave {
        let call = &event.event.call;
        let Some(entries) = self.calls.get(call.id.as_str()) else { return Leave::Given };
        let mut leave = Leave::Given;
        for Entry { reach, .. } in entries.iter().filter(|entry| entry.call.means(call)) {
            match reach {
                Some(reach) if reach.has(event) => return Leave::Never,
                Some(_) => {}
                None => leave = Leave::Later,
            }
        }
        leave
    }

    fn entry(&mut self, id: &str, number: u64) -> Option<&mut Entry> {
        self.calls.get_mut(id)?.iter_mut().find(|entry| entry.number == number)
    }

    fn remove(&mut self, id: &Arc<str>, number: u64) {
        if let Some(entries) = self.calls.get_mut(id) {
            entries.retain(|entry| entry.number != number);
            if entries.is_empty() {
                self.calls.remove(id);
            }
        }
    }
}

/// An event that is being told.
pub(super) struct UnderWay<'a> {
    erasures: &'a Erasures,
    event: &'a Arc<Stored>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.erasures.state();
        let place = state.under_way.iter().position(|event| Arc::ptr_eq(event, self.event));
        if let Some(place) = place {
            state.under_way.swap_remove(place);
        }
        drop(state);
        self.erasures.ended.notify_waiters();
    }
}

/// A call that is being erased: nothing is told of it. If it ends without being
/// erased, all is told that was there.
pub struct Held {
    erasures: Arc<Erasures>,
    call: CallName,
    number: u64,
    reach: Option<Reach>,
}

impl Held {
    /// The call is erased, so far; what came later is told.
    pub fn erased(&mut self, reach: Reach) {
        self.reach = Some(reach);
        if let Some(entry) = self.erasures.state().entry(self.call.id(), self.number) {
            entry.reach = self.reach;
        }
        self.erasures.count.send_modify(|count| *count += 1);
    }

    /// Waits until nothing of what was erased is being told any more. Whether that is
    /// so.
    pub async fn ended(&self, patience: Duration) -> bool {
        let all = async {
            loop {
                let mut ended = std::pin::pin!(self.erasures.ended.notified());
                // Before the look, so that no end is missed.
                ended.as_mut().enable();
                if !self.is_told() {
                    return;
                }
                ended.await;
            }
        };
        timeout(patience, all).await.is_ok()
    }

    fn is_told(&self) -> bool {
        let is_erased = |event: &Stored| {
            self.reach.is_some_and(|reach| reach.has(event)) && self.call.means(&event.event.call)
        };
        self.erasures.state().under_way.iter().any(|event| is_erased(event))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.reach.is_none() {
            let mut state = self.erasures.state();
            state.remove(self.call.id(), self.number);
            state.order.retain(|(_, number)| *number != self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::tests::delivery;
    use super::*;

    fn stored(seq: i64, call: &str) -> Arc<Stored> {
        delivery(seq, call).event
    }

    fn call(id: &str) -> CallName {
        CallName::new(id, None).unwrap()
    }

    const REACH: Reach = Reach { up_to: 2, revived_up_to: 3 };

    #[tokio::test]
    async fn what_came_before_is_held_and_then_never_told_and_what_comes_later_is() {
        let erasures = Arc::new(Erasures::default());
        let (before, later, other) = (stored(2, "a"), stored(3, "a"), stored(1, "b"));
        let mut held = erasures.hold(call("a"));
        assert_eq!(erasures.admit(&before).err(), Some(Leave::Later));
        assert_eq!(erasures.unless(&later, || ()).err(), Some(Leave::Later));
        assert!(erasures.admit(&other).is_ok() && !erasures.has(&before));
        held.erased(REACH);
        drop(held);
        assert_eq!(erasures.admit(&before).err(), Some(Leave::Never));
        assert_eq!(erasures.unless(&before, || ()).err(), Some(Leave::Never));
        assert!(erasures.has(&before) && erasures.admit(&later).is_ok());
        // One that did not come about.
        drop(erasures.hold(call("a")));
        assert!(erasures.admit(&later).is_ok());
    }

    #[tokio::test]
    async fn an_attempt_that_is_under_way_is_waited_for() {
        let erasures = Arc::new(Erasures::default());
        let event = stored(1, "a");
        let under_way = erasures.admit(&event).ok().unwrap();
        let mut held = erasures.hold(call("a"));
        held.erased(REACH);
        assert!(!held.ended(Duration::from_millis(20)).await);
        let (ended, ()) =
            tokio::join!(held.ended(Duration::from_secs(20)), async { drop(under_way) });
        assert!(ended);
    }

    #[tokio::test]
    async fn they_are_bounded() {
        let erasures = Arc::new(Erasures::default());
        for nth in 0..MOST + 10 {
            erasures.hold(call(&nth.to_string())).erased(REACH);
        }
        let state = erasures.state();
        assert_eq!((state.order.len(), state.calls.len()), (MOST, MOST));
    }
}
