//! Has both hooks: routes every call, and counts the events that it is told of.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        Ok(route("ws://sts-full/").with_prompt(format!("Be brief, call {}", call.id())))
    }
}

impl Observer for Guest {
    fn on_event(_: &Event) -> Result<()> {
        kv::increment("seen", 1)?;
        Ok(())
    }
}

plugboard_sdk::export!(Guest: Router + Observer);
