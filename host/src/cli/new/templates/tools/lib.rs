//! A tool for voice agents, `opening_hours`: returns the opening hours of a day.
//!
//! The values of `config` are in `[config]` of plugin-name.toml.

use std::collections::BTreeMap;

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};

const DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

struct PluginName;

impl Tools for PluginName {
    fn tools() -> ToolBox {
        // Change this: a function for each tool, by the name that agents use.
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
    open: bool,
    hours: Option<String>,
}

fn opening_hours(_: &Call, query: Query) -> Result<OpeningHours, ToolError> {
    let day = query.day.to_lowercase();
    if !DAYS.contains(&day.as_str()) {
        // An error for the agent, which can act on it.
        return Err(ToolError::new("day must be one of monday to sunday").with_code("NO_SUCH_DAY"));
    }
    // This error goes to the operator's log; the agent only learns that the tool failed.
    let mut week: BTreeMap<String, String> = config::table("hours")?.unwrap_or_default();
    let hours = week.remove(&day);
    Ok(OpeningHours {
        open: hours.is_some(),
        hours,
    })
}

plugboard_sdk::export!(PluginName: Tools);

#[cfg(test)]
mod tests;
