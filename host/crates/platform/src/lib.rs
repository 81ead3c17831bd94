//! Adapters for the voice platforms, one file each.
//!
//! A [`PlatformAdapter`] authenticates a request on its raw bytes, before anything is
//! parsed, parses it into a [`PlatformRequest`], and renders the answer. This crate knows
//! neither WebAssembly nor sockets.
//!
//! No other code compares platforms. It reads properties instead
//! ([`PlatformInfo`](plugboard_core::platforms::PlatformInfo)). A comparison could omit a new
//! platform, and two platforms with the same properties are treated the same. The exceptions
//! are the configuration, which has a table for each platform, and the command `run`, which
//! enables all of them.
//!
//! A new platform is a constant in `plugboard_core::platforms`, a file here with its adapter,
//! and a line in `ADAPTERS`. Its path, the setting `platforms = [...]`, the log, `/explain` and
//! the counters follow from these. The smallest adapter is `toy.rs` in the test `new_platform` of
//! the server, which serves it from end to end.

#![forbid(unsafe_code)]

mod adapter;
mod avr;
mod blackbox;
#[cfg(test)]
mod fuzz;
mod json;

use std::sync::Arc;

use axum::http::HeaderMap;

pub use self::adapter::{
    BadRequest, PlatformAdapter, PlatformRequest, PromptEndpoint, Reply, RequestLimits, ToolAnswer,
    ToolFailure, ToolUse, Transfer,
};
use plugboard_config::Config;
pub use plugboard_config::credentials::Unauthorized;
use plugboard_core::json_depth;

/// Creates an adapter from the configuration. `None`: the platform is disabled.
type AdapterFactory = fn(&Config) -> Option<Arc<dyn PlatformAdapter>>;

/// The factories of all adapters.
const ADAPTERS: &[AdapterFactory] = &[avr::adapter, blackbox::adapter];

/// Returns the adapters of the enabled platforms.
pub fn adapters(config: &Config) -> Vec<Arc<dyn PlatformAdapter>> {
    ADAPTERS.iter().filter_map(|make| make(config)).collect()
}

/// Finds the platform of a request: the first adapter that parses it and whose request `accept`
/// accepts.
///
/// # Errors
///
/// Fails if no adapter parses the request; the message has the reason of each adapter.
pub fn recognize<'a, T>(
    adapters: &'a [Arc<dyn PlatformAdapter>],
    headers: &HeaderMap,
    body: &[u8],
    accept: impl Fn(PlatformRequest) -> Result<T, String>,
) -> Result<(&'a dyn PlatformAdapter, T), BadRequest> {
    json_depth::check(body)?;
    let mut reasons = Vec::new();
    for adapter in adapters {
        let request = adapter.parse(headers, body).map_err(|error| error.message);
        match request.and_then(&accept) {
            Ok(accepted) => return Ok((&**adapter, accepted)),
            Err(reason) => reasons.push(format!("as {}: {reason}", adapter.name())),
        }
    }
    Err(BadRequest { message: reasons.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugboard_config::{Flags, load};
    use plugboard_core::platforms;

    /// Returns the adapters of all platforms.
    pub(super) fn all_adapters() -> Vec<Arc<dyn PlatformAdapter>> {
        let mut config = load(Flags::default(), []).unwrap().config;
        config.enable_all_platforms();
        adapters(&config)
    }

    #[test]
    fn every_platform_family_has_adapter() {
        let names: Vec<&str> = all_adapters().iter().map(|adapter| adapter.name()).collect();
        for platform in platforms::all() {
            assert!(names.contains(&platform.family), "{platform:?}: no adapter in {names:?}");
        }
    }
}
