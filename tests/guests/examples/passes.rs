//! Passes every call to the next plugin.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        log::debug(call.platform());
        Ok(pass())
    }
}

plugboard_sdk::export!(Guest: Router);
