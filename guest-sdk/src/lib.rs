//! The SDK for [Plugboard] plugins in Rust.
//!
//! A plugin that decides where calls go is a type that implements [`Router`]:
//!
//! ```
//! use plugboard_sdk::prelude::*;
//!
//! struct Vip;
//!
//! impl Router for Vip {
//!     fn decide(call: &Call) -> Result<Decision> {
//!         if call.to() == Some("5001") {
//!             return Ok(route("ws://sts-vip:6030/?uuid={id}").cached(Duration::from_secs(60), ["to"]));
//!         }
//!         Ok(pass())
//!     }
//! }
//!
//! plugboard_sdk::export!(Vip: Router);
//! ```
//!
//! A plugin that receives the events of calls implements [`Observer`]. One type can
//! have several hooks: `export!(Both: Router + Observer)`.
//!
//! ```
//! use plugboard_sdk::prelude::*;
//!
//! struct Digits;
//!
//! impl Observer for Digits {
//!     fn on_event(event: &Event) -> Result<()> {
//!         // The same event can be delivered again, so its id is part of the key.
//!         if let EventBody::DtmfDigit(digit) = event.body() {
//!             kv::set_for(&format!("digit/{}", event.id()), digit, Duration::from_secs(3600))?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! plugboard_sdk::export!(Digits: Observer);
//! ```
//!
//! A plugin that answers the tool calls of voice agents implements [`Tools`]. Each tool
//! is a function with a name. The SDK reads the agent's JSON arguments as the type of
//! the function's argument, and writes the result as JSON.
//!
//! ```
//! use plugboard_sdk::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Query {
//!     order: u32,
//! }
//!
//! #[derive(Serialize)]
//! struct Order {
//!     state: String,
//! }
//!
//! fn order_state(_: &Call, query: Query) -> Result<Order, ToolError> {
//!     let Some(state) = kv::get_text(&format!("order/{}", query.order))? else {
//!         return Err(ToolError::new("there is no such order").with_code("NO_SUCH_ORDER"));
//!     };
//!     Ok(Order { state })
//! }
//!
//! struct Orders;
//!
//! impl Tools for Orders {
//!     fn tools() -> ToolBox {
//!         ToolBox::new().with("order_state", order_state)
//!     }
//! }
//!
//! plugboard_sdk::export!(Orders: Tools);
//! ```
//!
//! A plugin that decides transfers implements [`Transfers`].
//!
//! Every plugin can read its own settings ([`config`]) and write to the log ([`log`]).
//! The settings grant [`kv`], [`http`] and [`metrics`] under `[grants]`.
//!
//! `Cargo.toml` needs `[lib] crate-type = ["cdylib", "rlib"]`. Then
//! `cargo build --release --target wasm32-wasip2` builds the file to deploy, and
//! `cargo test` runs the plugin natively against a fake host ([`testing`]).
//!
//! Each call of a hook gets a fresh instance, so static variables do not keep their
//! values from one call to the next.
//!
//! [Plugboard]: https://github.com/plugboard/plugboard

#[cfg(all(target_family = "wasm", feature = "allocator"))]
mod allocator;
mod arguments;
mod call;
pub mod config;
mod decision;
mod error;
mod event;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[path = "wasm/mod.rs"]
pub mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "native.rs"]
mod host;
pub mod http;
pub mod kv;
pub mod log;
pub mod metrics;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod tool;
mod transfer;

pub use self::call::Call;
pub use self::decision::{Decision, Verdict, accept, pass, reject, route};
pub use self::error::{Error, Result};
pub use self::event::{CallOutcome, Ending, Event, EventBody, Role, Routing};
pub use self::tool::{ToolBox, ToolError};
pub use self::transfer::{TransferAnswer, TransferRequest};

/// The items that most plugins need: `use plugboard_sdk::prelude::*`.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{Call, Decision, Error, Event, EventBody, Result};
    pub use crate::{Observer, Router, Tools, Transfers};
    pub use crate::{ToolBox, ToolError, TransferAnswer, TransferRequest};
    pub use crate::{accept, pass, reject, route};
    pub use crate::{config, http, kv, log, metrics};
}

/// A plugin that decides where calls go.
pub trait Router {
    /// Decides one call. The host calls it once for each call, while the caller hears
    /// ringing. It asks the plugins in the order of their file names; the first
    /// decision that is not [`pass`] wins.
    ///
    /// # Errors
    ///
    /// Any error that prevents a decision: `?` turns it into an [`Error`]. The host
    /// logs it, and the plugin's `on_failure` setting determines how the call
    /// continues.
    fn decide(call: &Call) -> Result<Decision>;
}

/// A plugin that receives the events of calls.
pub trait Observer {
    /// Handles one event. The host calls it for each event of the kinds that the
    /// plugin's settings select (`[events] kinds`), in order within a call. Delivery
    /// is at least once: the same event, with the same [id](Event::id), can arrive
    /// again.
    ///
    /// # Errors
    ///
    /// Any error that a retry can resolve. The host delivers the same event again
    /// after a delay, and moves it to the dead-letter queue when the attempts are used
    /// up. Later events of the call wait meanwhile. Log an error that no retry can
    /// resolve, and return `Ok(())`.
    fn on_event(event: &Event) -> Result<()>;
}

/// A plugin that answers the tool calls of voice agents.
pub trait Tools {
    /// Returns the plugin's tools with their names, at most 64. Agents call a tool by
    /// its name. The operator's settings (`[tools] names`) can replace the list of
    /// names.
    ///
    /// The host calls this function when it loads the plugin, and the SDK calls it
    /// for each tool call, so it should only build the [`ToolBox`].
    ///
    /// While a tool runs, the caller hears silence. A [`ToolError`] is an answer for
    /// the agent, not a failure of the plugin. The host does not log its message; use
    /// [`log`] for messages to the operator.
    fn tools() -> ToolBox;
}

/// A plugin that decides transfers of calls.
pub trait Transfers {
    /// Decides one transfer. The host asks the plugins in the order of their file
    /// names, and the first answer wins. `None` is no opinion; if all plugins return
    /// it, the platform gets `{}`.
    ///
    /// # Errors
    ///
    /// Any error that prevents an answer. The host logs it, and the plugin's
    /// `on_failure` setting applies.
    fn on_transfer(call: &Call, request: &TransferRequest) -> Result<Option<TransferAnswer>>;
}

/// Exports a type as the plugin of this crate, with any of the hooks [`Router`],
/// [`Observer`], [`Tools`] and [`Transfers`]: `export!(MyPlugin: Router)`, or
/// `export!(MyPlugin: Router + Observer)`.
///
/// Use it once in a crate. On other targets than WebAssembly, it exports nothing, and
/// only checks that the type implements the traits.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $first:ident $(+ $more:ident)*) => {
        $crate::__export_hook!($plugin, $first);
        $($crate::__export_hook!($plugin, $more);)*
    };
}

/// Exports one hook of a plugin.
#[macro_export]
#[doc(hidden)]
macro_rules! __export_hook {
    ($plugin:ty, Router) => {
        $crate::__export_router!($plugin);
    };
    ($plugin:ty, Observer) => {
        $crate::__export_observer!($plugin);
    };
    ($plugin:ty, Tools) => {
        $crate::__export_tools!($plugin);
    };
    ($plugin:ty, Transfers) => {
        $crate::__export_transfers!($plugin);
    };
    ($plugin:ty, $other:ident) => {
        compile_error!(concat!(
            "a plugin can be Router, Observer, Tools and Transfers, not ",
            stringify!($other)
        ));
    };
}
