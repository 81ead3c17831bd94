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
//! that is both says so: `export!(Both: Router + Observer)`.
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

pub use self::call::Call;
pub use self::decision::{Decision, Verdict, pass, reject, route};
pub use self::error::{Error, Result};
pub use self::event::{CallOutcome, Ending, Event, EventBody, Role, Routing};

/// What most plugins need: `use plugboard_sdk::prelude::*`.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{Call, Decision, Error, Event, EventBody, Observer, Result, Router};
    pub use crate::{config, http, kv, log, metrics};
    pub use crate::{pass, reject, route};
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

/// Makes a type the plugin that this crate is, with the hooks that it has:
/// `export!(MyPlugin: Router)`, `export!(MyPlugin: Observer)` or
/// `export!(MyPlugin: Router + Observer)`.
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
    ($plugin:ty, $other:ident) => {
        compile_error!(concat!("a plugin can be Router and Observer, not ", stringify!($other)));
    };
}
