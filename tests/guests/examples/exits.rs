//! Exits with a status instead of returning a decision.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        std::process::exit(call.platform().len() as i32)
    }
}

plugboard_sdk::export!(Guest: Router);
