//! Recurses until its stack overflows.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        fn depth(n: u64) -> u64 {
            if n == u64::MAX { 0 } else { std::hint::black_box(depth(n + 1)) + 1 }
        }
        Ok(route(format!("ws://sts/{}", depth(call.id().len() as u64))))
    }
}

plugboard_sdk::export!(Guest: Router);
