//! Rejects every call with the reason `closed`.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        log::debug(call.platform());
        Ok(reject("closed"))
    }
}

plugboard_sdk::export!(Guest: Router);
