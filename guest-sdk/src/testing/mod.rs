//! A fake host for native tests of a plugin with `cargo test`:
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
//! The fake host delivers events to an observer, and records its requests and values:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use plugboard_sdk::testing::Host;
//!
//! # struct Reporter;
//! # impl Observer for Reporter {
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
//! assert!(host.observe::<Reporter>(&event).is_err());
//! // The host delivers it again.
//! host.observe::<Reporter>(&event).unwrap();
//! assert_eq!(host.requests()[1].body, b"1");
//! assert_eq!(host.kv("started").unwrap(), b"2");
//! ```

//! A tool call returns the answer that the agent gets:
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
//! #             let not_found = || ToolError::new("there is no such order").with_code("NO_SUCH_ORDER");
//! #             Ok(json!({ "state": state.ok_or_else(not_found)? }))
//! #         })
//! #     }
//! # }
//! # #[derive(serde::Deserialize)]
//! # struct Order { order: u32 }
//! let host = Host::new().with_kv("order/7", "sent");
//! let call_tool = |arguments| host.invoke::<Orders>(&Call::new("1"), "order_state", arguments);
//! assert_eq!(call_tool(json!({"order": 7})).unwrap(), json!({"state": "sent"}));
//! assert_eq!(call_tool(json!({"order": 8})).unwrap_err().code(), Some("NO_SUCH_ORDER"));
//! assert_eq!(call_tool(json!({})).unwrap_err().code(), Some(ToolError::INVALID_ARGUMENTS));
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

/// A fake host with the settings of the test. It records the plugin's requests, values,
/// metrics and log lines. Clones share their state.
///
/// It grants storage and metrics by default, and each request that has a response. It has
/// no timeouts.
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

/// Methods that set up the host.
impl Host {
    /// Creates a host without settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key to the plugin's `[config]`. Pass the value as the plugin gets it: numbers
    /// and booleans as text, arrays and tables as JSON.
    #[must_use]
    pub fn with_config(self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.borrow_mut().config.insert(key.into(), value.into());
        self
    }

    /// Sets a value in the plugin's storage, without an expiry.
    #[must_use]
    pub fn with_kv(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.borrow_mut().store.put(key, value.as_ref(), None);
        self
    }

    /// Withdraws the grant of storage.
    #[must_use]
    pub fn without_kv(self) -> Self {
        self.0.borrow_mut().store.refuse();
        self
    }

    /// Makes the next `swaps` calls of `compare_and_swap` fail, as if another call had
    /// changed the value.
    #[must_use]
    pub fn with_contention(self, swaps: u32) -> Self {
        self.0.borrow_mut().store.contend(swaps);
        self
    }

    /// Adds a response to requests with this method and URL. Responses are used once each,
    /// in the order in which they were added. A request without a response is not granted.
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

    /// Adds an error, as [`Host::with_response`] adds a response.
    #[must_use]
    pub fn with_http_error(self, method: &str, url: &str, error: http::Error) -> Self {
        self.0.borrow_mut().network.answer(method, url, Err(error));
        self
    }

    /// Withdraws the grant of metrics.
    #[must_use]
    pub fn without_metrics(self) -> Self {
        self.0.borrow_mut().figures.refuse();
        self
    }
}

/// Methods that run the plugin.
impl Host {
    /// Asks the plugin to decide a call.
    ///
    /// # Errors
    ///
    /// The error that the plugin returns.
    pub fn decide<T: Router>(&self, call: &Call) -> Result<Decision> {
        self.run(|| T::decide(call))
    }

    /// Delivers an event to the plugin once.
    ///
    /// # Errors
    ///
    /// The error that the plugin returns.
    pub fn observe<T: Observer>(&self, event: &Event) -> Result<()> {
        self.run(|| T::on_event(event))
    }

    /// Returns the names of the plugin's tools.
    pub fn tool_names<T: Tools>(&self) -> Vec<String> {
        self.run(|| T::tools().names())
    }

    /// Calls a tool of the plugin, and returns the result that the agent gets.
    ///
    /// # Errors
    ///
    /// The error that the agent gets instead of a result.
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

    /// Returns the time to live and the vary fields of a tool's results. None: the results
    /// are not cacheable, or the plugin has no such tool.
    pub fn tool_cache<T: Tools>(&self, name: &str) -> Option<(Duration, Vec<String>)> {
        let tools = self.run(T::tools);
        let cache = tools.tool(name).ok()?.cache()?;
        Some((cache.ttl, cache.vary.clone()))
    }

    /// Asks the plugin to decide a transfer. None: the plugin has no opinion.
    ///
    /// # Errors
    ///
    /// The error that the plugin returns, or an error if its answer is not JSON.
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
            .map_err(|error| Error::new(format_args!("the answer is not JSON: {error}")))
    }

    /// Runs other code of the plugin, such as a helper function, with this host.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        host::with(self.clone(), work)
    }

    /// Advances the clock of the plugin's storage, so that values expire.
    pub fn advance(&self, span: Duration) {
        self.0.borrow_mut().store.advance(span);
    }
}

/// Methods that return the recorded effects of the plugin.
impl Host {
    /// Returns the log lines so far.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().log.clone()
    }

    /// Returns a value of the plugin's storage.
    pub fn kv(&self, key: &str) -> Option<Vec<u8>> {
        self.0.borrow().store.peek(key)
    }

    /// Returns the requests so far, including those that were not granted.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().network.sent()
    }

    /// Returns the value of a counter; 0 if it was never used.
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.0.borrow().figures.counter(name, labels)
    }

    /// Returns the recorded values of a histogram.
    pub fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.0.borrow().figures.observed(name, labels)
    }
}

/// Host functions that the plugin calls.
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
