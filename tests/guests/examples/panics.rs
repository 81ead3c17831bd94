//! Panics with a message in every call.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        panic!("the plan for {} is missing", call.platform())
    }
}

plugboard_sdk::export!(Guest: Router);
