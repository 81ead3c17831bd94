//! Routes every call to a URL with the unsupported scheme `ftp`.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        Ok(route(format!("ftp://{}/", call.platform())))
    }
}

plugboard_sdk::export!(Guest: Router);
