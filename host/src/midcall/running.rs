//! What is under way in the middle of calls: whoever erases a call waits for it, since
//! plugins may leave values behind.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::event::Call;
use crate::store::erase::CallName;

/// The calls in which something is under way, each as often as it is.
#[derive(Default)]
pub(super) struct Running(watch::Sender<Vec<Arc<Call>>>);

/// Something under way, until it is dropped.
pub struct UnderWay<'a> {
    running: &'a Running,
    call: &'a Arc<Call>,
}

impl Running {
    pub(super) fn begin<'a>(&'a self, call: &'a Arc<Call>) -> UnderWay<'a> {
        self.0.send_modify(|calls| calls.push(Arc::clone(call)));
        UnderWay { running: self, call }
    }

    pub(super) fn is_under_way(&self, call: &CallName) -> bool {
        self.0.borrow().iter().any(|it| call.means(it))
    }

    /// Waits until nothing is under way. Whether it came to that in time.
    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut calls = self.0.subscribe();
        timeout(patience, calls.wait_for(Vec::is_empty)).await.is_ok()
    }

    /// Waits until nothing is under way in a call. Whether it came to that in time.
    pub(super) async fn ended(&self, call: &CallName, patience: Duration) -> bool {
        let mut calls = self.0.subscribe();
        let ended = calls.wait_for(|calls| !calls.iter().any(|it| call.means(it)));
        timeout(patience, ended).await.is_ok()
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.running.0.send_modify(|calls| {
            if let Some(place) = calls.iter().position(|it| Arc::ptr_eq(it, self.call)) {
                calls.swap_remove(place);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::call;

    #[tokio::test]
    async fn a_call_is_waited_for_and_no_other() {
        let running = Running::default();
        let (one, other) = (Arc::new(call("1", "2", "{}")), {
            let mut other = call("1", "2", "{}");
            other.id = "other".to_owned();
            Arc::new(other)
        });
        let name = CallName::new(&one.id, None).unwrap();
        let soon = Duration::from_millis(20);
        let _other = running.begin(&other);
        let (first, second) = (running.begin(&one), running.begin(&one));
        drop(first);
        assert!(!running.ended(&name, soon).await);
        let (ended, ()) = tokio::join!(running.ended(&name, Duration::from_secs(5)), async {
            drop(second);
        });
        assert!(ended);
    }
}
