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
#[cfg(target_family = "wasm")]
#[doc(hidden)]
#[path = "wasm.rs"]
pub mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "native.rs"]
mod host;
pub mod log;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use self::call::Call;
pub use self::decision::{Decision, Verdict, pass, reject, route};
pub use self::error::{Error, Result};

/// What most plugins need: `use plugboard_sdk::prelude::*`.
pub mod prelude {
    pub use std::time::Duration;

    pub use crate::{Call, Decision, Error, Result, Router, config, log, pass, reject, route};
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

/// Makes a type the plugin that this crate is: `export!(MyPlugin: Router)`.
///
/// Once in a crate. Outside of WebAssembly, where there is nothing to export,
/// it only checks that the type is what it says.
#[macro_export]
macro_rules! export {
    ($plugin:ty : Router) => {
        $crate::__export_router!($plugin);
    };
}
