//! A fake host, so that `cargo test` runs a plugin natively:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use plugboard_sdk::testing::Host;
//!
//! # struct Vip;
//! # impl Router for Vip {
//! #     fn decide(call: &Call) -> Result<Decision> {
//! #         log::info("asked");
//! #         Ok(if call.to() == Some(&config::require("vip")?) { route("ws://sts-vip") } else { pass() })
//! #     }
//! # }
//! let host = Host::new().with_config("vip", "5001");
//! let decision = host.decide::<Vip>(&Call::new("1").with_to("5001")).unwrap();
//! assert_eq!(decision.sts_url(), Some("ws://sts-vip"));
//! assert_eq!(host.log()[0].1, "asked");
//! ```
//!
//! An observer is told of events, and what it did is there to look at:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use plugboard_sdk::testing::Host;
//!
//! # struct Tell;
//! # impl Observer for Tell {
//! #     fn on_event(event: &Event) -> Result<()> {
//! #         kv::increment(event.kind(), 1)?;
//! #         http::post("http://crm:8080/calls").body(event.call().id()).send()?.ok()?;
//! #         Ok(())
//! #     }
//! # }
//! let host = Host::new()
//!     .with_response("POST", "http://crm:8080/calls", 503, "")
//!     .with_response("POST", "http://crm:8080/calls", 201, "");
//! let event = Event::new(Call::new("1"), EventBody::Started);
//! assert!(host.observe::<Tell>(&event).is_err());
//! // The host delivers it again.
//! host.observe::<Tell>(&event).unwrap();
//! assert_eq!(host.requests()[1].body, b"1");
//! assert_eq!(host.kv("started").unwrap(), b"2");
//! ```

mod figures;
mod network;
mod store;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use self::figures::Figures;
use self::network::Network;
use self::store::Store;
use crate::http::{self, Request, Response};
use crate::log::Level;
use crate::{Call, Decision, Event, Observer, Result, Router, host};

/// A host with the settings that the test gives it, which keeps what the plugin
/// does. Clones are the same host.
///
/// It grants kv and metrics until it is told otherwise, and those requests that
/// it has a response to.
#[derive(Clone, Debug, Default)]
pub struct Host(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    config: BTreeMap<String, String>,
    log: Vec<(Level, String)>,
    store: Store,
    network: Network,
    figures: Figures,
}

/// What the test sets up.
impl Host {
    /// A host without settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same host with one more key in the plugin's `[config]`. What is no
    /// text in the settings file is given as the plugin gets it: numbers and
    /// booleans as text, arrays and tables as JSON.
    #[must_use]
    pub fn with_config(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.borrow_mut().config.insert(key.into(), value.into());
        self
    }

    /// The same host with this value in the plugin's store.
    #[must_use]
    pub fn with_kv(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.borrow_mut().store.put(key, value.as_ref(), None);
        self
    }

    /// The same host, which does not grant kv.
    #[must_use]
    pub fn without_kv(self) -> Self {
        self.0.borrow_mut().store.refuse();
        self
    }

    /// The same host, where somebody else gets ahead of the next swaps.
    #[must_use]
    pub fn with_contention(self, swaps: u32) -> Self {
        self.0.borrow_mut().store.contend(swaps);
        self
    }

    /// The same host with one more response to this method and URL. Each is given
    /// once, in their order; a request without one is not granted.
    #[must_use]
    pub fn with_response(
        self,
        method: &str,
        url: &str,
        status: u16,
        body: impl Into<Vec<u8>>,
    ) -> Self {
        let response = Response { status, headers: Vec::new(), body: body.into() };
        self.0.borrow_mut().network.answer(method, url, Ok(response));
        self
    }

    /// As [`Host::with_response`], but no response comes.
    #[must_use]
    pub fn with_http_error(self, method: &str, url: &str, error: http::Error) -> Self {
        self.0.borrow_mut().network.answer(method, url, Err(error));
        self
    }

    /// The same host, which does not grant metrics.
    #[must_use]
    pub fn without_metrics(self) -> Self {
        self.0.borrow_mut().figures.refuse();
        self
    }
}

/// What the plugin is made to do.
impl Host {
    /// Asks a plugin.
    ///
    /// # Errors
    ///
    /// What the plugin returns.
    pub fn decide<T: Router>(&self, call: &Call) -> Result<Decision> {
        host::with(self.clone(), || T::decide(call))
    }

    /// Tells a plugin of an event, once.
    ///
    /// # Errors
    ///
    /// What the plugin returns.
    pub fn observe<T: Observer>(&self, event: &Event) -> Result<()> {
        host::with(self.clone(), || T::on_event(event))
    }

    /// Lets time pass in the plugin's store.
    pub fn advance(&self, span: Duration) {
        self.0.borrow_mut().store.advance(span);
    }
}

/// What the plugin did.
impl Host {
    /// What was logged so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().log.clone()
    }

    /// A value in the plugin's store.
    pub fn kv(&self, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().store.peek(key)
    }

    /// The requests so far, also those that were not granted.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().network.sent()
    }

    /// The sum of a counter; 0 when it was never counted.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.0.borrow().figures.counter(name, labels)
    }

    /// The values of a histogram.
    pub fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.0.borrow().figures.observed(name, labels)
    }
}

/// What the plugin calls.
impl Host {
    pub(crate) fn config_value(&self, key: &str) -> Option<String> {
        self.0.borrow().config.get(key).cloned()
    }

    pub(crate) fn logged(&self, level: Level, message: &str) {
        self.0.borrow_mut().log.push((level, message.to_owned()));
    }

    pub(crate) fn store<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        work(&mut self.0.borrow_mut().store)
    }

    pub(crate) fn network<T>(&self, work: impl FnOnce(&mut Network) -> T) -> T {
        work(&mut self.0.borrow_mut().network)
    }

    pub(crate) fn figures<T>(&self, work: impl FnOnce(&mut Figures) -> T) -> T {
        work(&mut self.0.borrow_mut().figures)
    }
}

#[cfg(test)]
mod tests;
