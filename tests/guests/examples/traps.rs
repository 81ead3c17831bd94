//! Traps in every call.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        std::hint::black_box(call);
        std::process::abort()
    }
}

plugboard_sdk::export!(Guest: Router);
