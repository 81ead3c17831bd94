//! Returns an error for every call.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        Err(Error::new(format_args!("the CRM knows no {}", call.platform())))
    }
}

plugboard_sdk::export!(Guest: Router);
