//! Allocates memory in an endless loop.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        loop {
            blocks.push(vec![call.id().len() as u8; 1 << 20]);
        }
    }
}

plugboard_sdk::export!(Guest: Router);
