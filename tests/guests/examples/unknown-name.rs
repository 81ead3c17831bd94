//! Routes to a URL with a placeholder that is no field of the call.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        log::debug(call.platform());
        Ok(route("ws://sts/?x={no_such_field}"))
    }
}

plugboard_sdk::export!(Guest: Router);
