//! Write [Plugboard] plugins in Rust.
//!
//! A plugin that decides where calls go is a type with a [`Router`]:
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
//! One that is told what happens in calls is a type with an [`Observer`]; a type
//! that is more than one of these says so: `export!(Both: Router + Observer)`.
//!
//! ```
//! use plugboard_sdk::prelude::*;
//!
//! struct Digits;
//!
//! impl Observer for Digits {
//!     fn on_event(event: &Event) -> Result<()> {
//!         // The same event may come again: what is set by its id is set once.
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
//! One that answers the tools of voice agents is a type with [`Tools`]: functions by
//! the names that agents know them by. What an agent sends is read as the
//! function's argument, and what it returns is written as JSON.
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
//! One that has a say in transfers is a type with [`Transfers`].
//!
//! What a plugin may reach beside its own settings and the log, the operator
//! grants in those settings: [`kv`], [`http`] and [`metrics`].
//!
//! In `Cargo.toml`, `[lib] crate-type = ["cdylib", "rlib"]`; then
//! `cargo build --release --target wasm32-wasip2` makes a file to deploy, and
//! `cargo test` runs the plugin natively against a fake host ([`testing`]).
//!
//! Every call gets a fresh instance: what a plugin keeps in statics is gone with
//! the call.
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

/// What most plugins need: `use plugboard_sdk::prelude::*`.
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
    /// Asked once for each call, while the caller hears ringing. Plugins are
    /// asked in the order of their file names; the first decision that is not
    /// [`pass`] wins.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way of a decision: `?` turns any error into an
    /// [`Error`]. The operator sees it, and the plugin's `on_failure` setting
    /// says what becomes of the call.
    fn decide(call: &Call) -> Result<Decision>;
}

/// A plugin that is told what happens in calls.
pub trait Observer {
    /// Told of every event of the kinds that the plugin's settings ask for
    /// (`[events] kinds`), in order within its call, and at least once: the same
    /// event, by its [id](Event::id), may come again.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way: the same event comes again, after a while, and
    /// in the end goes to the operator's list of dead letters. The call's later
    /// events wait for it, so an event that can never be taken is better logged
    /// than returned as an error.
    fn on_event(event: &Event) -> Result<()>;
}

/// A plugin that answers the tools which voice agents use in the middle of a call.
pub trait Tools {
    /// The tools, by the names that the platform's agents know them by: 64 at the
    /// most. Asked when the plugin is loaded, and for each use, so it should do
    /// nothing but name them. The operator's settings (`[tools] names`) may have the
    /// plugin answer others.
    ///
    /// A tool runs while the caller listens to silence. Its [`ToolError`] is an
    /// answer, and the agent gets it; what the operator should know as well, it logs.
    fn tools() -> ToolBox;
}

/// A plugin that has a say when a call is about to be transferred.
pub trait Transfers {
    /// Asked when the platform wants to know about a transfer. Plugins are asked in
    /// the order of their file names; `None` is no opinion, and the first answer
    /// wins. If no plugin has one, the platform is answered `{}`.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way: the operator sees it, and the plugin's
    /// `on_failure` setting applies.
    fn on_transfer(call: &Call, request: &TransferRequest) -> Result<Option<TransferAnswer>>;
}

/// Makes a type the plugin that this crate is, with the hooks that it has, any of
/// [`Router`], [`Observer`], [`Tools`] and [`Transfers`]: `export!(MyPlugin: Router)`,
/// or `export!(MyPlugin: Router + Observer)`.
///
/// Once in a crate. Outside of WebAssembly, where there is nothing to export,
/// it only checks that the type is what it says.
#[macro_export]
macro_rules! export {
    ($plugin:ty : $first:ident $(+ $more:ident)*) => {
        $crate::__export_hook!($plugin, $first);
        $($crate::__export_hook!($plugin, $more);)*
    };
}

/// Exports one hook.
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

// What the documents have in Rust is compiled and run with `cargo test --doc`.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    mod readme {}
    #[doc = include_str!("../../docs/guide/first-plugin.md")]
    mod first_plugin {}
    #[doc = include_str!("../../docs/guide/decisions.md")]
    mod decisions {}
    #[doc = include_str!("../../docs/guide/state-and-http.md")]
    mod state_and_http {}
    #[doc = include_str!("../../docs/guide/testing.md")]
    mod testing {}
    #[doc = include_str!("../../docs/guide/tools-and-events.md")]
    mod tools_and_events {}
}
