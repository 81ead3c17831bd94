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

//! An agent's use of a tool gives what the agent gets:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use plugboard_sdk::testing::Host;
//! use serde_json::json;
//!
//! # struct Orders;
//! # impl Tools for Orders {
//! #     fn tools() -> ToolBox {
//! #         ToolBox::new().with("order_state", |_, order: Order| {
//! #             let state = kv::get_text(&format!("order/{}", order.order))?;
//! #             let nothing = || ToolError::new("there is no such order").with_code("NO_SUCH_ORDER");
//! #             Ok(json!({ "state": state.ok_or_else(nothing)? }))
//! #         })
//! #     }
//! # }
//! # #[derive(serde::Deserialize)]
//! # struct Order { order: u32 }
//! let host = Host::new().with_kv("order/7", "sent");
//! let use_it = |arguments| host.invoke::<Orders>(&Call::new("1"), "order_state", arguments);
//! assert_eq!(use_it(json!({"order": 7})).unwrap(), json!({"state": "sent"}));
//! assert_eq!(use_it(json!({"order": 8})).unwrap_err().code(), Some("NO_SUCH_ORDER"));
//! assert_eq!(use_it(json!({})).unwrap_err().code(), Some(ToolError::INVALID_ARGUMENTS));
//! ```

mod figures;
mod network;
mod store;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use self::figures::Figures;
use self::network::Network;
use self::store::Store;
use crate::http::{self, Request, Response};
use crate::log::Level;
use crate::{Call, Decision, Event, Observer, Result, Router, host};
use crate::{Error, ToolError, Tools, TransferRequest, Transfers};

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
        self.run(|| T::decide(call))
    }

    /// Tells a plugin of an event, once.
    ///
    /// # Errors
    ///
    /// What the plugin returns.
    pub fn observe<T: Observer>(&self, event: &Event) -> Result<()> {
        self.run(|| T::on_event(event))
    }

    /// The names of a plugin's tools.
    pub fn tool_names<T: Tools>(&self) -> Vec<String> {
        self.run(|| T::tools().names())
    }

    /// Uses a tool of a plugin. What the agent gets.
    ///
    /// # Errors
    ///
    /// What the agent gets instead.
    pub fn invoke<T: Tools>(
        &self,
        call: &Call,
        name: &str,
        arguments: impl Serialize,
    ) -> Result<Value, ToolError> {
        let arguments = serde_json::to_string(&arguments)?;
        let run = || {
            let result = T::tools().tool(name)?.run(call, &arguments);
            result.inspect_err(|error| error.report(name))
        };
        Ok(serde_json::from_str(&self.run(run)?)?)
    }

    /// For how long a result of a tool may be used again, and the call fields that
    /// it depends on. None: it is not, or the plugin has no such tool.
    pub fn tool_cache<T: Tools>(&self, name: &str) -> Option<(Duration, Vec<String>)> {
        let tools = self.run(T::tools);
        let cache = tools.tool(name).ok()?.cache()?;
        Some((cache.ttl, cache.vary.clone()))
    }

    /// Asks a plugin about a transfer. None: it has no opinion.
    ///
    /// # Errors
    ///
    /// What the plugin returns; also when its answer is no JSON.
    pub fn transfer<T: Transfers>(
        &self,
        call: &Call,
        request: impl Serialize,
    ) -> Result<Option<Value>> {
        let request = TransferRequest { json: serde_json::to_string(&request)? };
        let Some(answer) = self.run(|| T::on_transfer(call, &request))? else {
            return Ok(None);
        };
        serde_json::from_str(answer.json())
            .map(Some)
            .map_err(|error| Error::new(format_args!("the answer is no JSON: {error}")))
    }

    /// Runs a part of a plugin, such as a function that it takes its decisions with.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        host::with(self.clone(), work)
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
