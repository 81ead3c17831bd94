//! Erasing what is remembered of a call, while events of it may come: what was
//! looked up before is neither kept nor told with an event after it.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::event::Call;
use crate::store::erase::CallName;

/// The order of events and erasures: an event is on its way to the store before an
/// erasure begins, with what was known then, or after it.
#[derive(Default)]
pub(super) struct Erasures {
    /// Of which the store may still tell what is being erased.
    under_way: RwLock<Vec<CallName>>,
    begun: AtomicU64,
}

/// No erasure begins as long as this is there.
pub(super) type InOrder<'a> = RwLockReadGuard<'a, Vec<CallName>>;

impl Erasures {
    /// How many have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Acquire)
    }

    /// Lets none begin.
    pub(super) fn in_order(&self) -> InOrder<'_> {
        self.under_way.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets none begin, if none did since there were so many.
    pub(super) fn in_order_since(&self, begun: u64) -> Option<InOrder<'_>> {
        let in_order = self.in_order();
        (self.begun() == begun).then_some(in_order)
    }

    /// Whether a call is being erased.
    pub(super) fn is_under_way(&self, call: &Call) -> bool {
        self.in_order().iter().any(|erased| erased.means(call))
    }

    /// Begins one: `begin` drops what is at hand, and asks the store to do the same.
    /// What it returned, and what is to be dropped when the store has done so.
    pub(super) fn begin<T>(
        self: &Arc<Self>,
        call: &CallName,
        begin: impl FnOnce() -> T,
    ) -> (T, UnderWay) {
        let mut under_way = self.under_way.write().unwrap_or_else(PoisonError::into_inner);
        under_way.push(call.clone());
        let begun = begin();
        // Not before: what was at hand until now must not pass for what was looked up
        // afterwards.
        self.begun.fetch_add(1, Release);
        (begun, UnderWay { erasures: Arc::clone(self), call: call.clone() })
    }
}

/// An erasure that the store may not have done yet.
pub(super) struct UnderWay {
    erasures: Arc<Erasures>,
    call: CallName,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.erasures.under_way.write().unwrap_or_else(PoisonError::into_inner);
        let place = under_way.iter().position(|it| Arc::ptr_eq(it.id(), self.call.id()));
        if let Some(place) = place {
            under_way.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::call;

    #[test]
    fn what_was_looked_up_before_is_not_used_after() {
        let erasures = Arc::new(Erasures::default());
        let it = call("1", "2", "{}");
        let before = erasures.begun();
        assert!(erasures.in_order_since(before).is_some());
        let begin = || {
            // What is at hand now is of before.
            assert_eq!(erasures.begun(), before);
            assert!(erasures.under_way.try_read().is_err(), "an event could come between");
        };
        let name = CallName::new(&it.id, None).unwrap();
        let ((), under_way) = erasures.begin(&name, begin);
        let ((), another) = erasures.begin(&CallName::new("another", None).unwrap(), || ());
        assert!(erasures.in_order_since(before).is_none());
        assert!(erasures.in_order_since(erasures.begun()).is_some());
        assert!(erasures.is_under_way(&it));
        drop(under_way);
        assert!(!erasures.is_under_way(&it));
        assert_eq!(erasures.under_way.read().unwrap().len(), 1);
        drop(another);
    }
}
