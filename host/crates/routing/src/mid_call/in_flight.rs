//! Mid-call requests in flight. The erasure of a call waits for them, because their plugins may
//! still store values.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use plugboard_core::call_id::CallId;
use plugboard_core::call_selector::CallSelector;

/// The calls of the requests in flight: one entry per request.
#[derive(Default)]
pub(super) struct InFlightCalls(watch::Sender<Vec<CallId>>);

/// Guard of a request in flight; dropping it ends the request.
pub struct InFlightGuard<'a> {
    in_flight: &'a InFlightCalls,
    call: CallId,
}

impl InFlightCalls {
    pub(super) fn begin(&self, call: CallId) -> InFlightGuard<'_> {
        self.0.send_modify(|calls| calls.push(call.clone()));
        InFlightGuard { in_flight: self, call }
    }

    pub(super) fn contains(&self, call: &CallSelector) -> bool {
        self.0.borrow().iter().any(|active| call.matches_id(active))
    }

    /// Waits until no request is in flight. Returns whether that happened within `max_wait`.
    pub(super) async fn wait_until_idle(&self, max_wait: Duration) -> bool {
        let mut calls = self.0.subscribe();
        timeout(max_wait, calls.wait_for(Vec::is_empty)).await.is_ok()
    }

    /// Waits until no request of a selected call is in flight. Returns whether that happened
    /// within `max_wait`.
    pub(super) async fn wait_for_call(&self, call: &CallSelector, max_wait: Duration) -> bool {
        let mut calls = self.0.subscribe();
        let ended = calls.wait_for(|calls| !calls.iter().any(|active| call.matches_id(active)));
        timeout(max_wait, ended).await.is_ok()
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.in_flight.0.send_modify(|calls| {
            if let Some(index) = calls.iter().position(|active| *active == self.call) {
                calls.swap_remove(index);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_core::platforms::AVR;

    #[tokio::test]
    async fn wait_for_call_ignores_other_calls() {
        let in_flight = InFlightCalls::default();
        let (one, other) = (CallId::new(AVR, "one"), CallId::new(AVR, "other"));
        let name = CallSelector::new("one", None).unwrap();
        let short_wait = Duration::from_millis(20);
        let _other = in_flight.begin(other);
        let (first, second) = (in_flight.begin(one.clone()), in_flight.begin(one));
        drop(first);
        assert!(!in_flight.wait_for_call(&name, short_wait).await);
        let (ended, ()) =
            tokio::join!(in_flight.wait_for_call(&name, Duration::from_secs(5)), async {
                drop(second);
            });
        assert!(ended);
    }
}
