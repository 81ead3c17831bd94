//! Measures the duration of calls for the server's metrics, and logs long calls.
//!
//! Each event runs in a fresh instance, so data for later events is stored with `kv`. The
//! values of `config` are in `[config]` of plugin-name.toml.

use plugboard_sdk::Ending;
use plugboard_sdk::prelude::*;

/// Time for which the start of a call without an end is stored.
const TTL: Duration = Duration::from_secs(24 * 3600);

struct PluginName;

impl Observer for PluginName {
    fn on_event(event: &Event) -> Result<()> {
        // Change this. The settings select the kinds of events.
        match event.body() {
            EventBody::Started => started(event),
            EventBody::Ended(ending) => ended(event, ending),
            _ => Ok(()),
        }
    }
}

/// Key of a call's start. It has the call's id, so that erasing the call removes the
/// value.
fn key(event: &Event) -> String {
    format!("call/{}/started", event.call().id())
}

fn started(event: &Event) -> Result<()> {
    kv::set_json_for(&key(event), &event.unix_ms(), TTL)
}

fn ended(event: &Event, ending: &Ending) -> Result<()> {
    let long: Option<f64> = config::parse("long_call_seconds")?;
    let Some(started) = kv::get_json::<u64>(&key(event))? else {
        // The call started before the plugin was deployed, or was measured already.
        return Ok(());
    };
    let seen = Duration::from_millis(event.unix_ms().saturating_sub(started));
    let seconds = ending.duration.unwrap_or(seen).as_secs_f64();
    // Delivery is at least once; only the first delivery finds a value to delete.
    if kv::delete(&key(event))? {
        let platform = event.call().platform();
        metrics::observe("call_seconds", &[("platform", platform)], seconds)?;
        if long.is_some_and(|long| seconds > long) {
            log::info(format_args!("long call: {seconds:.0} s"));
        }
    }
    Ok(())
}

plugboard_sdk::export!(PluginName: Observer);

#[cfg(test)]
mod tests;
