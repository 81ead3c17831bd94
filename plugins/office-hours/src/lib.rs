//! Office hours: calls are taken during them. At other times they are rejected, or
//! taken by an agent that says so.

mod hours;

use jiff::Timestamp;
use plugboard_sdk::prelude::*;

use crate::hours::Hours;

/// The longest that the host may answer from its cache, in case somebody sets the
/// clock.
const LONGEST: Duration = Duration::from_secs(300);

/// The shortest: right before the hours change, calls are not asked about one by one.
const SHORTEST: Duration = Duration::from_secs(1);

struct OfficeHours;

impl Router for OfficeHours {
    fn decide(_: &Call) -> Result<Decision> {
        decide_at(Timestamp::now())
    }
}

fn decide_at(now: Timestamp) -> Result<Decision> {
    // Both, so that a mistake shows before it matters.
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
