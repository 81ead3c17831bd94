//! Returns a URL of about 10 MB.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        Ok(route(format!("ws://sts/{}", call.platform().repeat(10_000_000 / 3))))
    }
}

plugboard_sdk::export!(Guest: Router);
