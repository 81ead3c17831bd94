//! Sleeps for a minute in a host call.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        std::thread::sleep(Duration::from_secs(60));
        Ok(route(format!("ws://sts/{}", call.platform())))
    }
}

plugboard_sdk::export!(Guest: Router);
