//! Looks up the caller in a CRM, and routes VIP callers to their own agent. For other
//! callers, it passes.

use plugboard_sdk::prelude::*;
use serde::Deserialize;

/// Default of `ttl_seconds`: the time in seconds for which the host caches the decision.
const TTL_SECONDS: u64 = 300;

/// The CRM's answer about a caller. Other fields, such as a name, are ignored.
#[derive(Deserialize)]
struct Customer {
    vip: bool,
}

struct CrmLookup;

impl Router for CrmLookup {
    fn decide(call: &Call) -> Result<Decision> {
        let ttl = config::parse("ttl_seconds")?.unwrap_or(TTL_SECONDS);
        let vip = match call.from() {
            Some(number) if !number.is_empty() => is_vip(number)?,
            _ => false,
        };
        let decision = if vip { vip_route()? } else { pass() };
        Ok(decision.cached(Duration::from_secs(ttl), ["from"]))
    }
}

fn vip_route() -> Result<Decision> {
    let decision = route(config::require("vip_sts_url")?);
    Ok(match config::get("prompt") {
        Some(prompt) => decision.with_prompt(prompt),
        None => decision,
    })
}

fn is_vip(number: &str) -> Result<bool> {
    let url = config::require("url")?;
    let separator = if url.contains('?') { '&' } else { '?' };
    let response = http::get(format!("{url}{separator}number={}", encode(number))).send()?;
    if response.status() == 404 {
        return Ok(false);
    }
    Ok(response.ok()?.json::<Customer>()?.vip)
}

/// Percent-encodes a value for a query. The caller can send any text as caller ID.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

plugboard_sdk::export!(CrmLookup: Router);

#[cfg(test)]
mod tests {
    use plugboard_sdk::Verdict;
    use plugboard_sdk::testing::Host;

    use super::*;

    const URL: &str = "http://crm:8080/callers";

    fn host() -> Host {
        Host::new().with_config("url", URL).with_config("vip_sts_url", "ws://vip/?uuid={id}")
    }

    fn host_with_response(number: &str, status: u16, body: &str) -> Host {
        host().with_response("GET", &format!("{URL}?number={number}"), status, body)
    }

    fn call(from: &str) -> Call {
        Call::new("1").with_from(from)
    }

    fn assert_cached(decision: &Decision, seconds: u64) {
        let vary = ["from".to_owned()];
        assert_eq!(decision.cache(), Some((Duration::from_secs(seconds), vary.as_slice())));
    }

    #[test]
    fn vip_is_routed_to_vip_agent() {
        let host = host_with_response("%2B391", 200, r#"{"vip":true,"name":"Ada"}"#);
        let host = host.with_config("prompt", "Be kind.").with_config("ttl_seconds", "60");
        let decision = host.decide::<CrmLookup>(&call("+391")).unwrap();
        let (sts_url, prompt) = (Some("ws://vip/?uuid={id}".into()), Some("Be kind.".into()));
        assert_eq!(decision.verdict(), &Verdict::Route { sts_url, prompt });
        assert_cached(&decision, 60);
    }

    #[test]
    fn other_callers_are_passed() {
        for (status, body) in [(200, r#"{"vip":false}"#), (404, "unknown")] {
            let decision =
                host_with_response("1", status, body).decide::<CrmLookup>(&call("1")).unwrap();
            assert_eq!(decision.verdict(), &Verdict::Pass);
            assert_cached(&decision, TTL_SECONDS);
        }
    }

    #[test]
    fn missing_number_sends_no_request() {
        let host = host();
        for call in [Call::new("1"), call("")] {
            let decision = host.decide::<CrmLookup>(&call).unwrap();
            assert_eq!(decision.verdict(), &Verdict::Pass);
            assert_cached(&decision, TTL_SECONDS);
        }
        assert!(host.requests().is_empty());
    }

    #[test]
    fn caller_id_is_percent_encoded() {
        let host = host_with_response("a%26vip%3D1%20%23%0D%0A%C3%A9", 404, "");
        let decision = host.decide::<CrmLookup>(&call("a&vip=1 #\r\né")).unwrap();
        assert_eq!(decision.verdict(), &Verdict::Pass);
    }

    #[test]
    fn number_is_appended_to_existing_query() {
        let host = Host::new().with_config("url", format!("{URL}?key=k")).with_response(
            "GET",
            &format!("{URL}?key=k&number=1"),
            404,
            "",
        );
        let decision = host.decide::<CrmLookup>(&call("1")).unwrap();
        assert_eq!(decision.verdict(), &Verdict::Pass);
    }

    #[test]
    fn crm_failure_does_not_quote_values() {
        for (status, body) in [(500, "no 391"), (200, "391"), (200, r#"{"vip":"391"}"#)] {
            let error = host_with_response("391", status, body).decide::<CrmLookup>(&call("391"));
            let error = error.unwrap_err().to_string();
            assert!(!error.contains("391"), "{error}");
        }
        let error = Host::new().decide::<CrmLookup>(&call("1")).unwrap_err().to_string();
        assert_eq!(error, "[config] has no `url`");
    }
}
