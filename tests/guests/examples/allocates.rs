//! Allocates without end.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        let mut hoard: Vec<Vec<u8>> = Vec::new();
        loop {
            hoard.push(vec![call.id().len() as u8; 1 << 20]);
        }
    }
}

plugboard_sdk::export!(Guest: Router);
