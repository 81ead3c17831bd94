//! Computes for 20 ms, so that the host counts it as CPU-bound, and then sleeps for 300 ms.
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
