//! Computes in an endless loop.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        loop {
            std::hint::black_box(call);
        }
    }
}

plugboard_sdk::export!(Guest: Router);
