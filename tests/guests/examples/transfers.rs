//! Answers transfers with a configurable behaviour. Setting `do`: `answer` (the text of the
//! setting `answer`, or else `{"accept":true,"seen":REQUEST}` with the platform's document),
//! `nothing`, `error`, `trap`, `sleep`, `spin`, or `invalid` (invalid JSON).
use plugboard_sdk::prelude::*;

struct Guest;

impl Transfers for Guest {
    fn on_transfer(call: &Call, request: &TransferRequest) -> Result<Option<TransferAnswer>> {
        let answer = match config::get("do").as_deref().unwrap_or("answer") {
            "answer" => config::get("answer")
                .unwrap_or_else(|| format!(r#"{{"accept":true,"seen":{}}}"#, request.json())),
            "nothing" => return Ok(None),
            "error" => return Err(Error::new("failed as configured")),
            "trap" => std::process::abort(),
            "sleep" => {
                std::thread::sleep(Duration::from_secs(60));
                return Ok(None);
            }
            "spin" => loop {
                std::hint::black_box(call);
            },
            "invalid" => "{no JSON".to_owned(),
            other => return Err(Error::new(format_args!("cannot do `{other}`"))),
        };
        Ok(Some(TransferAnswer::raw(answer)))
    }
}

plugboard_sdk::export!(Guest: Transfers);
