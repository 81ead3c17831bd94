//! Sends the calls of some callers to a service of their own, and leaves all other
//! calls to the plugins after it.
//!
//! What it reads with `config` stands under `[config]` in plugin-name.toml.

use plugboard_sdk::prelude::*;

/// For how long the host may give the same answer to the same caller without asking
/// again. New settings count at once.
const TTL: Duration = Duration::from_secs(60);

struct PluginName;

impl Router for PluginName {
    fn decide(call: &Call) -> Result<Decision> {
        // The place to change: look at the call, and say where it goes.
        let callers: Vec<String> = config::table("callers")?.unwrap_or_default();
        let is_one = callers
            .iter()
            .any(|caller| call.from() == Some(caller.as_str()));
        let decision = if is_one {
            route(config::require("sts_url")?)
        } else {
            // No opinion: the next plugin decides.
            pass()
        };
        // Name every field of the call that was looked at.
        Ok(decision.cached(TTL, ["from"]))
    }
}

plugboard_sdk::export!(PluginName: Router);

#[cfg(test)]
mod tests;
