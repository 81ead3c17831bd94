//! Orders appends and erasures: a context that was read before the erasure of its call
//! is not stored or delivered with an event after it.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use parking_lot::{RwLock, RwLockReadGuard};

use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;

/// A barrier between appends and erasures. Every event is sent to the store either before an
/// erasure begins, with the context of that time, or after it.
#[derive(Default)]
pub(super) struct AppendBarrier {
    /// The calls whose erasure the store may not have finished.
    erasing: RwLock<Vec<CallSelector>>,
    epoch: AtomicU64,
}

/// No erasure begins while this exists.
pub(super) type AppendGuard<'a> = RwLockReadGuard<'a, Vec<CallSelector>>;

impl AppendBarrier {
    /// Returns the number of erasures that have begun.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    /// Returns a guard that keeps erasures from beginning.
    pub(super) fn guard_append(&self) -> AppendGuard<'_> {
        self.erasing.read()
    }

    /// Returns a guard as [`AppendBarrier::guard_append`] does. `None`: an erasure has begun
    /// since `epoch`.
    pub(super) fn guard_append_at(&self, epoch: u64) -> Option<AppendGuard<'_>> {
        let append_guard = self.guard_append();
        (self.epoch() == epoch).then_some(append_guard)
    }

    /// Returns whether a call is being erased.
    pub(super) fn is_erasing(&self, call: &Call) -> bool {
        self.guard_append().iter().any(|erased| erased.matches(call))
    }

    /// Begins an erasure: `start` evicts the call from memory, and requests the erasure
    /// from the store. Returns its result, and a guard to drop when the store is done.
    pub(super) fn begin_erasure<T>(
        self: &Arc<Self>,
        call: &CallSelector,
        start: impl FnOnce() -> T,
    ) -> (T, ErasureGuard) {
        let mut erasing = self.erasing.write();
        erasing.push(call.clone());
        let result = start();
        // The epoch increases after `start`, because a context that was evicted must not count
        // as read later.
        self.epoch.fetch_add(1, Release);
        (result, ErasureGuard { barrier: Arc::clone(self), call: call.clone() })
    }
}

/// Guard of an erasure that the store may not have finished.
pub(super) struct ErasureGuard {
    barrier: Arc<AppendBarrier>,
    call: CallSelector,
}

impl Drop for ErasureGuard {
    fn drop(&mut self) {
        let mut erasing = self.barrier.erasing.write();
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
            // A context in memory was read before the erasure.
            assert_eq!(barrier.epoch(), epoch_before);
            assert!(barrier.erasing.try_read().is_none(), "an append could run in between");
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
        assert_eq!(barrier.erasing.read().len(), 1);
        drop(other_guard);
    }
}
