//! The fake host, for plugins that run natively in their author's tests: what
//! [`crate::testing`] set up for this thread.

use std::cell::RefCell;

use crate::log::Level;
use crate::testing::Host;

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Checks that the type can be exported, where there is nothing to export to.
#[macro_export]
#[doc(hidden)]
macro_rules! __export_router {
    ($plugin:ty) => {
        const _: () = {
            const fn is_router<T: $crate::Router>() {}
            is_router::<$plugin>();
        };
    };
}

/// Runs `work` with a host.
pub(crate) fn with<T>(host: Host, work: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also when the plugin panics.
    struct Restore(Option<Host>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(host)));
    work()
}

fn current<T>(what: &str, work: impl FnOnce(&Host) -> T) -> T {
    CURRENT.with_borrow(|host| match host {
        Some(host) => work(host),
        #[allow(clippy::panic, reason = "a mistake in a test ends the test")]
        None => panic!("{what} outside of a plugin; in a test, use plugboard_sdk::testing::Host"),
    })
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    current("config", |host| host.config_value(key))
}

pub(crate) fn log_write(level: Level, message: &str) {
    current("log", |host| host.logged(level, message));
}
