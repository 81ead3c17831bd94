//! Exports all hooks: it routes every call, counts the events that it receives, has a
//! tool `seen` that returns this count, and answers every transfer.
use plugboard_sdk::prelude::*;
use serde_json::json;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        Ok(route("ws://sts-full/").with_prompt(format!("Be brief, call {}", call.id())))
    }
}

impl Observer for Guest {
    fn on_event(_: &Event) -> Result<()> {
        kv::increment("seen", 1)?;
        Ok(())
    }
}

impl Tools for Guest {
    fn tools() -> ToolBox {
        // The tool ignores its arguments.
        ToolBox::new().with("seen", |_, _: serde_json::Value| {
            Ok(kv::get_json::<u64>("seen")?.unwrap_or_default())
        })
    }
}

impl Transfers for Guest {
    fn on_transfer(_: &Call, _: &TransferRequest) -> Result<Option<TransferAnswer>> {
        Ok(Some(TransferAnswer::new(&json!({ "full": true }))?))
    }
}

plugboard_sdk::export!(Guest: Router + Observer + Tools + Transfers);
