//! Office hours: the plugin takes calls during the hours. At other times it rejects them,
//! or routes them to an agent with a special prompt.

mod hours;

use jiff::Timestamp;
use plugboard_sdk::prelude::*;

use crate::hours::Hours;

/// Maximum time to live of a cached decision, in case the machine's clock is changed.
const LONGEST: Duration = Duration::from_secs(300);

/// Minimum time to live. Without it, every call right before a change of the hours would run
/// the plugin.
const SHORTEST: Duration = Duration::from_secs(1);

struct OfficeHours;

impl Router for OfficeHours {
    fn decide(_: &Call) -> Result<Decision> {
        decide_at(Timestamp::now())
    }
}

fn decide_at(now: Timestamp) -> Result<Decision> {
    // Both are evaluated, so that an invalid setting is reported at any time.
    let (when_open, when_closed) = (when_open(), when_closed()?);
    let state = Hours::from_settings()?.at(now)?;
    let decision = if state.open { when_open } else { when_closed };
    let no_fields: [&str; 0] = [];
    Ok(decision.cached(state.lasts.unwrap_or(LONGEST).clamp(SHORTEST, LONGEST), no_fields))
}

fn when_open() -> Decision {
    match config::get("open_prompt") {
        Some(prompt) => accept().with_prompt(prompt),
        None => pass(),
    }
}

fn when_closed() -> Result<Decision> {
    match config::get("closed").as_deref().unwrap_or("reject") {
        "reject" => {
            let message = config::get("closed_message");
            Ok(reject(message.unwrap_or_else(|| "The office is closed.".to_owned())))
        }
        "prompt" => {
            let decision = config::get("closed_sts_url").map_or_else(accept, route);
            Ok(decision.with_prompt(config::require("closed_prompt")?))
        }
        other => Err(Error::new(format_args!(
            "[config] `closed`: `{other}` is neither `reject` nor `prompt`"
        ))),
    }
}

plugboard_sdk::export!(OfficeHours: Router);

#[cfg(test)]
mod tests;
