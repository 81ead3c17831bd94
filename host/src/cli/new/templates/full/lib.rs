//! Everything that a plugin can be: says where calls go, is told what happens in them,
//! answers a tool of voice agents, and has a say in transfers.
//!
//! Take away what is not needed, here, in `export!` and in plugin-name.toml: what a
//! plugin does not export costs nothing. What it reads with `config` stands there under
//! `[config]`.

use std::collections::BTreeMap;

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// For how long the host may give the same answer for the same number without asking
/// again. New settings count at once.
const TTL: Duration = Duration::from_secs(60);

/// For how long it is remembered that a call was counted. The same event comes again
/// soon, or not at all.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

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
        // Name every field of the call that was looked at.
        Ok(decision.cached(TTL, ["to"]))
    }
}

impl Observer for PluginName {
    /// Counts calls when they end.
    fn on_event(event: &Event) -> Result<()> {
        if let EventBody::Ended(_) = event.body() {
            let call = event.call();
            // The same event may come again. Under the call's id, so that it goes when
            // the operator has the call forgotten.
            let times = kv::increment_for(&format!("call/{}/ended", call.id()), 1, REMEMBERED)?;
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

/// What the agent sends. Other arguments are answered with `INVALID_ARGUMENTS`.
#[derive(Deserialize)]
struct Query {
    day: String,
}

/// What the agent gets.
#[derive(Serialize)]
struct OpeningHours {
    hours: String,
}

fn opening_hours(_: &Call, query: Query) -> Result<OpeningHours, ToolError> {
    let mut week: BTreeMap<String, String> = config::table("hours")?.unwrap_or_default();
    match week.remove(&query.day.to_lowercase()) {
        Some(hours) => Ok(OpeningHours { hours }),
        // An answer for the agent, which can act on it.
        None => Err(ToolError::new("nobody is there on that day").with_code("CLOSED")),
    }
}

impl Transfers for PluginName {
    /// Answers as the settings say. What stands in such a document, and in its answer,
    /// is the platform's own.
    fn on_transfer(_: &Call, _: &TransferRequest) -> Result<Option<TransferAnswer>> {
        let answer: Option<Value> = config::table("transfer")?;
        answer.as_ref().map(TransferAnswer::new).transpose()
    }
}

plugboard_sdk::export!(PluginName: Router + Observer + Tools + Transfers);

#[cfg(test)]
mod tests;
