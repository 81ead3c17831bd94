//! What is under way in the middle of calls: whoever erases a call waits for it, since
//! plugins may leave values behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use plugboard_core::call::Call;
use plugboard_core::call_selector::CallSelector;

/// The calls in which something is under way, each as often as it is.
#[derive(Default)]
pub(super) struct InFlightCalls(watch::Sender<Vec<Arc<Call>>>);

/// Something under way, until it is dropped.
pub struct InFlightGuard<'a> {
    in_flight: &'a InFlightCalls,
    call: &'a Arc<Call>,
}

impl InFlightCalls {
    pub(super) fn begin<'a>(&'a self, call: &'a Arc<Call>) -> InFlightGuard<'a> {
        self.0.send_modify(|calls| calls.push(Arc::clone(call)));
        InFlightGuard { in_flight: self, call }
    }

    pub(super) fn contains(&self, call: &CallSelector) -> bool {
        self.0.borrow().iter().any(|active| call.matches(active))
    }

    /// Waits until nothing is under way. Whether it came to that in time.
    pub(super) async fn wait_until_idle(&self, max_wait: Duration) -> bool {
        let mut calls = self.0.subscribe();
        timeout(max_wait, calls.wait_for(Vec::is_empty)).await.is_ok()
    }

    /// Waits until nothing is under way in a call. Whether it came to that in time.
    pub(super) async fn wait_for_call(&self, call: &CallSelector, max_wait: Duration) -> bool {
        let mut calls = self.0.subscribe();
        let ended = calls.wait_for(|calls| !calls.iter().any(|active| call.matches(active)));
        timeout(max_wait, ended).await.is_ok()
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.in_flight.0.send_modify(|calls| {
            if let Some(index) = calls.iter().position(|active| Arc::ptr_eq(active, self.call)) {
                calls.swap_remove(index);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_core::testing::call;

    #[tokio::test]
    async fn wait_for_call_ignores_other_calls() {
        let in_flight = InFlightCalls::default();
        let (one, other) = (Arc::new(call("1", "2", "{}")), {
            let mut other = call("1", "2", "{}");
            other.id = "other".to_owned();
            Arc::new(other)
        });
        let name = CallSelector::new(&one.id, None).unwrap();
        let short_wait = Duration::from_millis(20);
        let _other = in_flight.begin(&other);
        let (first, second) = (in_flight.begin(&one), in_flight.begin(&one));
        drop(first);
        assert!(!in_flight.wait_for_call(&name, short_wait).await);
        let (ended, ()) =
            tokio::join!(in_flight.wait_for_call(&name, Duration::from_secs(5)), async {
                drop(second);
            });
        assert!(ended);
    }
}
