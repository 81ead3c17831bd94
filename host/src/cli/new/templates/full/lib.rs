//! All hooks of a plugin: routes calls, observes their events, answers a tool of voice
//! agents, and decides transfers.
//!
//! Remove the hooks that you do not need, here, in `export!` and in plugin-name.toml: a
//! hook that is not exported costs nothing. The values of `config` are in `[config]` of
//! plugin-name.toml.

use std::collections::BTreeMap;

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Time for which Plugboard may cache the decision for a number. New settings clear the
/// cache.
const TTL: Duration = Duration::from_secs(60);

/// Time for which the plugin recognizes a redelivered event. Redeliveries come soon, or
/// not at all.
const DEDUP_WINDOW: Duration = Duration::from_secs(24 * 3600);

struct PluginName;

impl Router for PluginName {
    /// Calls to some numbers go to a service; all others to the plugins after this one.
    fn decide(call: &Call) -> Result<Decision> {
        let numbers: Vec<String> = config::table("numbers")?.unwrap_or_default();
        let is_one = numbers
            .iter()
            .any(|number| call.to() == Some(number.as_str()));
        let decision = if is_one {
            route(config::require("sts_url")?)
        } else {
            pass()
        };
        // The vary set: every field of the call that the decision depends on.
        Ok(decision.cached(TTL, ["to"]))
    }
}

impl Observer for PluginName {
    /// Counts calls when they end.
    fn on_event(event: &Event) -> Result<()> {
        if let EventBody::Ended(_) = event.body() {
            let call = event.call();
            // Delivery is at least once. The key has the call's id, so that erasing the
            // call removes the value.
            let times = kv::increment_for(&format!("call/{}/ended", call.id()), 1, DEDUP_WINDOW)?;
            if times == 1 {
                metrics::count("calls", &[("platform", call.platform())], 1)?;
            }
        }
        Ok(())
    }
}

impl Tools for PluginName {
    fn tools() -> ToolBox {
        ToolBox::new().with("opening_hours", opening_hours)
    }
}

/// Arguments from the agent. Other arguments are answered with `INVALID_ARGUMENTS`.
#[derive(Deserialize)]
struct Query {
    day: String,
}

/// Result for the agent.
#[derive(Serialize)]
struct OpeningHours {
    hours: String,
}

fn opening_hours(_: &Call, query: Query) -> Result<OpeningHours, ToolError> {
    let mut week: BTreeMap<String, String> = config::table("hours")?.unwrap_or_default();
    match week.remove(&query.day.to_lowercase()) {
        Some(hours) => Ok(OpeningHours { hours }),
        // An error for the agent, which can act on it.
        None => Err(ToolError::new("closed on that day").with_code("CLOSED")),
    }
}

impl Transfers for PluginName {
    /// Answers with the document in the settings. The platform defines the format of the
    /// request and of the answer.
    fn on_transfer(_: &Call, _: &TransferRequest) -> Result<Option<TransferAnswer>> {
        let answer: Option<Value> = config::table("transfer")?;
        answer.as_ref().map(TransferAnswer::new).transpose()
    }
}

plugboard_sdk::export!(PluginName: Router + Observer + Tools + Transfers);

#[cfg(test)]
mod tests;
