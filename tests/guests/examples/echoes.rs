//! Routes every call with fields and metadata of the call in the URL.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        log::debug(call.metadata_names().count());
        Ok(route("ws://sts-echo:6030/calls/{to}?uuid={id}&from={from}&channel={channel}"))
    }
}

plugboard_sdk::export!(Guest: Router);
