//! Erasing what is remembered of a call, while events of it may come: what was
//! looked up before is neither kept nor told with an event after it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;

/// The order of events and erasures: an event is on its way to the store before an
/// erasure begins, with what was known then, or after it.
#[derive(Default)]
pub(super) struct AppendBarrier {
    /// Of which the store may still tell what is being erased.
    erasing: RwLock<Vec<CallSelector>>,
    epoch: AtomicU64,
}

/// No erasure begins as long as this is there.
pub(super) type AppendGuard<'a> = RwLockReadGuard<'a, Vec<CallSelector>>;

impl AppendBarrier {
    /// How many have begun.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Lets none begin.
    pub(super) fn guard_append(&self) -> AppendGuard<'_> {
        self.erasing.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets none begin, if none did since there were so many.
    pub(super) fn guard_append_at(&self, epoch: u64) -> Option<AppendGuard<'_>> {
        let append_guard = self.guard_append();
        (self.epoch() == epoch).then_some(append_guard)
    }

    /// Whether a call is being erased.
    pub(super) fn is_erasing(&self, call: &Call) -> bool {
        self.guard_append().iter().any(|erased| erased.matches(call))
    }

    /// Begins one: `begin` drops what is at hand, and asks the store to do the same.
    /// What it returned, and what is to be dropped when the store has done so.
    pub(super) fn begin_erasure<T>(
        self: &Arc<Self>,
        call: &CallSelector,
        start: impl FnOnce() -> T,
    ) -> (T, ErasureGuard) {
        let mut erasing = self.erasing.write().unwrap_or_else(PoisonError::into_inner);
        erasing.push(call.clone());
        let result = start();
        // Not before: what was at hand until now must not pass for what was looked up
        // afterwards.
        self.epoch.fetch_add(1, Release);
        (result, ErasureGuard { barrier: Arc::clone(self), call: call.clone() })
    }
}

/// An erasure that the store may not have done yet.
pub(super) struct ErasureGuard {
    barrier: Arc<AppendBarrier>,
    call: CallSelector,
}

impl Drop for ErasureGuard {
    fn drop(&mut self) {
        let mut erasing = self.barrier.erasing.write().unwrap_or_else(PoisonError::into_inner);
        let index = erasing.iter().position(|selector| Arc::ptr_eq(selector.id(), self.call.id()));
        if let Some(place) = index {
            erasing.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_core::testing::call;

    #[test]
    fn append_guard_is_denied_after_erasure_begins() {
        let barrier = Arc::new(AppendBarrier::default());
        let fixture_call = call("1", "2", "{}");
        let epoch_before = barrier.epoch();
        assert!(barrier.guard_append_at(epoch_before).is_some());
        let begin = || {
            // What is at hand now is of before.
            assert_eq!(barrier.epoch(), epoch_before);
            assert!(barrier.erasing.try_read().is_err(), "an event could come between");
        };
        let selector = CallSelector::new(&fixture_call.id, None).unwrap();
        let ((), erasure_guard) = barrier.begin_erasure(&selector, begin);
        let ((), other_guard) =
            barrier.begin_erasure(&CallSelector::new("another", None).unwrap(), || ());
        assert!(barrier.guard_append_at(epoch_before).is_none());
        assert!(barrier.guard_append_at(barrier.epoch()).is_some());
        assert!(barrier.is_erasing(&fixture_call));
        drop(erasure_guard);
        assert!(!barrier.is_erasing(&fixture_call));
        assert_eq!(barrier.erasing.read().unwrap().len(), 1);
        drop(other_guard);
    }
}
