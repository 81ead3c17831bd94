//! Counts its calls in a static. The count stays at 1 if each call has a fresh instance.
use std::sync::atomic::{AtomicU32, Ordering};

use plugboard_sdk::prelude::*;

static CALLS: AtomicU32 = AtomicU32::new(0);

struct Guest;

impl Router for Guest {
    fn decide(_: &Call) -> Result<Decision> {
        let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(route(format!("ws://sts/?calls={calls}")))
    }
}

plugboard_sdk::export!(Guest: Router);
