//! Measures how long calls are, for the server's metrics, and says in the log when one
//! was long.
//!
//! Every event finds a fresh instance, so what is to be known later is kept with `kv`.
//! What it reads with `config` stands under `[config]` in plugin-name.toml.

use plugboard_sdk::Ending;
use plugboard_sdk::prelude::*;

/// For how long a call's start is kept while no end is told.
const TTL: Duration = Duration::from_secs(24 * 3600);

struct PluginName;

impl Observer for PluginName {
    fn on_event(event: &Event) -> Result<()> {
        // The place to change. The settings say which kinds of events it is told.
        match event.body() {
            EventBody::Started => started(event),
            EventBody::Ended(ending) => ended(event, ending),
            _ => Ok(()),
        }
    }
}

/// Where a call's start is kept: under the call's id, so that it goes when the operator
/// has the call forgotten.
fn key(event: &Event) -> String {
    format!("call/{}/started", event.call().id())
}

fn started(event: &Event) -> Result<()> {
    kv::set_json_for(&key(event), &event.unix_ms(), TTL)
}

fn ended(event: &Event, ending: &Ending) -> Result<()> {
    let long: Option<f64> = config::parse("long_call_seconds")?;
    let Some(started) = kv::get_json::<u64>(&key(event))? else {
        // It began before the plugin was there, or was measured already.
        return Ok(());
    };
    let seen = Duration::from_millis(event.unix_ms().saturating_sub(started));
    let seconds = ending.duration.unwrap_or(seen).as_secs_f64();
    // The same event may come again; only the first time is there something to delete.
    if kv::delete(&key(event))? {
        let platform = event.call().platform();
        metrics::observe("call_seconds", &[("platform", platform)], seconds)?;
        if long.is_some_and(|long| seconds > long) {
            log::info(format_args!("a long call: {seconds:.0} s"));
        }
    }
    Ok(())
}

plugboard_sdk::export!(PluginName: Observer);

#[cfg(test)]
mod tests;
