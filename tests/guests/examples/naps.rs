//! Computes for as long as makes it slow, then sleeps for ten times that.
use std::time::Instant;

use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::black_box(call);
        }
        std::thread::sleep(Duration::from_millis(300));
        Ok(route("ws://sts-good:6030/?uuid={id}"))
    }
}

plugboard_sdk::export!(Guest: Router);
