//! Decides by its setting `rules`: each line has a field, a value and an outcome, and
//! the first line that matches decides. The vary set of the decision names exactly the
//! fields that the plugin compared, so it differs from call to call.
//!
//! Outcomes: `pass`, `reject REASON`, `route URL`, `error MESSAGE`, `hang`. The field `*`
//! always matches. The value `-` matches a field that the call does not have. Metadata is
//! compared as JSON. `ttl_ms` makes the decision cacheable; `sleep_ms` delays it.
use plugboard_sdk::prelude::*;

struct Guest;

impl Router for Guest {
    fn decide(call: &Call) -> Result<Decision> {
        let number = |key| config::get(key).and_then(|text| text.parse().ok());
        if let Some(time) = number("sleep_ms") {
            std::thread::sleep(Duration::from_millis(time));
        }
        let rules = config::get("rules").unwrap_or_default();
        let mut fields = Vec::new();
        let mut decision = pass();
        for rule in rules.lines() {
            let mut words = rule.splitn(4, ' ');
            let mut next = || words.next().unwrap_or_default();
            let (field, value, outcome, detail) = (next(), next(), next(), next());
            if field != "*" {
                fields.push(field);
                if text(call, field).as_deref().unwrap_or("-") != value {
                    continue;
                }
            }
            decision = match outcome {
                "route" => route(detail),
                "reject" => reject(detail),
                "error" => return Err(Error::new(detail)),
                "hang" => loop {
                    std::thread::sleep(Duration::from_secs(60));
                },
                _ => pass(),
            };
            break;
        }
        Ok(match number("ttl_ms") {
            Some(ttl) => decision.cached(Duration::from_millis(ttl), fields),
            None => decision,
        })
    }
}

fn text(call: &Call, field: &str) -> Option<String> {
    match field {
        "platform" => Some(call.platform().to_owned()),
        "id" => Some(call.id().to_owned()),
        "agent" => call.agent().map(str::to_owned),
        "from" => call.from().map(str::to_owned),
        "to" => call.to().map(str::to_owned),
        name => call.metadata_json(name).map(str::to_owned),
    }
}

plugboard_sdk::export!(Guest: Router);
