//! Writes more log lines and output than the host accepts.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        println!("to stdout\nsecond line");
        eprintln!("to stderr");
        for line in 0..200 {
            log::info(format_args!("line {line} of {}\n2026 ERROR forged", call.platform()));
        }
        log::info("x".repeat(100_000));
        Ok(pass())
    }
}

plugboard_sdk::export!(Guest: Router);
