//! Routes every call to one service, without any fault.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        log::debug(call.platform());
        Ok(route("ws://sts-good:6030/?uuid={id}"))
    }
}

plugboard_sdk::export!(Guest: Router);
