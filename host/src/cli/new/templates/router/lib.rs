//! Routes the calls of some callers to a service, and passes all other calls to the next
//! plugin.
//!
//! The values of `config` are in `[config]` of plugin-name.toml.

use plugboard_sdk::prelude::*;

/// Time for which Plugboard may cache the decision for a caller. New settings clear the
/// cache.
const TTL: Duration = Duration::from_secs(60);

struct PluginName;

impl Router for PluginName {
    fn decide(call: &Call) -> Result<Decision> {
        // Change this: select a destination by the fields of the call.
        let callers: Vec<String> = config::table("callers")?.unwrap_or_default();
        let is_one = callers
            .iter()
            .any(|caller| call.from() == Some(caller.as_str()));
        let decision = if is_one {
            route(config::require("sts_url")?)
        } else {
            // The next plugin decides.
            pass()
        };
        // The vary set: every field of the call that the decision depends on.
        Ok(decision.cached(TTL, ["from"]))
    }
}

plugboard_sdk::export!(PluginName: Router);

#[cfg(test)]
mod tests;
