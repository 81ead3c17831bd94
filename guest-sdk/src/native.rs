//! Host functions of native builds: they use the fake host that [`crate::testing`] has set
//! up for this thread.

use std::cell::RefCell;
use std::time::Duration;

use crate::log::Level;
use crate::testing::Host;
use crate::{http, kv, metrics};

thread_local! {
    static CURRENT: RefCell<Option<Host>> = const { RefCell::new(None) };
}

/// Checks that the type implements the trait. A native build exports nothing.
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

/// Checks that the type implements the trait. A native build exports nothing.
#[macro_export]
#[doc(hidden)]
macro_rules! __export_observer {
    ($plugin:ty) => {
        const _: () = {
            const fn is_observer<T: $crate::Observer>() {}
            is_observer::<$plugin>();
        };
    };
}

/// Checks that the type implements the trait. A native build exports nothing.
#[macro_export]
#[doc(hidden)]
macro_rules! __export_tools {
    ($plugin:ty) => {
        const _: () = {
            const fn has_tools<T: $crate::Tools>() {}
            has_tools::<$plugin>();
        };
    };
}

/// Checks that the type implements the trait. A native build exports nothing.
#[macro_export]
#[doc(hidden)]
macro_rules! __export_transfers {
    ($plugin:ty) => {
        const _: () = {
            const fn has_transfers<T: $crate::Transfers>() {}
            has_transfers::<$plugin>();
        };
    };
}

/// Runs `work` with a fake host.
pub(crate) fn with<T>(host: Host, work: impl FnOnce() -> T) -> T {
    /// Restores the previous host when dropped, also after a panic of the plugin.
    struct Restore(Option<Host>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _restore = Restore(CURRENT.replace(Some(host)));
    work()
}

fn current<T>(capability: &str, work: impl FnOnce(&Host) -> T) -> T {
    CURRENT.with_borrow(|host| match host {
        Some(host) => work(host),
        #[allow(clippy::panic, reason = "a mistake in a test ends the test")]
        None => panic!(
            "{capability} used outside of a plugin; in a test, run the code with \
             plugboard_sdk::testing::Host"
        ),
    })
}

pub(crate) fn config_get(key: &str) -> Option<String> {
    current("config", |host| host.config_value(key))
}

pub(crate) fn log_write(level: Level, message: &str) {
    current("log", |host| host.logged(level, message));
}

pub(crate) fn kv_get(key: &str) -> Result<Option<Vec<u8>>, kv::Error> {
    current("kv", |host| host.store(|store| store.get(key)))
}

pub(crate) fn kv_set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), kv::Error> {
    current("kv", |host| host.store(|store| store.set(key, value, ttl)))
}

pub(crate) fn kv_delete(key: &str) -> Result<bool, kv::Error> {
    current("kv", |host| host.store(|store| store.delete(key)))
}

pub(crate) fn kv_increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, kv::Error> {
    current("kv", |host| host.store(|store| store.increment(key, by, ttl)))
}

pub(crate) fn kv_compare_and_swap(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<bool, kv::Error> {
    current("kv", |host| host.store(|store| store.compare_and_swap(key, expected, value, ttl)))
}

pub(crate) fn http_send(request: http::Request) -> Result<http::Response, http::Error> {
    current("http", |host| host.network(|network| network.send(request)))
}

pub(crate) fn metrics_count(
    name: &str,
    labels: &[(&str, &str)],
    by: u64,
) -> Result<(), metrics::Error> {
    current("metrics", |host| host.figures(|figures| figures.count(name, labels, by)))
}

pub(crate) fn metrics_observe(
    name: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> Result<(), metrics::Error> {
    current("metrics", |host| host.figures(|figures| figures.observe(name, labels, value)))
}
