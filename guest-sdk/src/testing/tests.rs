//! Tests of the fake host with a plugin that uses all hooks and capabilities.

use serde_json::json;

use super::*;
use crate::event::{EventBody, Role};
use crate::{ToolBox, TransferAnswer, config, kv, log, metrics, reject};

struct Sample;

impl Router for Sample {
    fn decide(_: &Call) -> Result<Decision> {
        log::warn("about to read");
        let limit: u32 = config::parse("limit")?.unwrap_or(1);
        let names: Vec<String> = config::table("names")?.unwrap_or_default();
        Ok(reject(format!("{limit} {}", names.join(" "))))
    }
}

impl Observer for Sample {
    fn on_event(event: &Event) -> Result<()> {
        if let EventBody::Transcription { role, text } = event.body() {
            log::debug(format_args!("{}: {text}", role.name()));
        }
        kv::increment(event.call().id(), 1)?;
        Ok(())
    }
}

impl Tools for Sample {
    fn tools() -> ToolBox {
        ToolBox::new().with("count", |call, by: i64| Ok(kv::increment(call.id(), by)?)).with_cached(
            "limit",
            |_, ()| Ok(config::require("limit")?),
            Duration::from_secs(60),
            ["to"],
        )
    }
}

impl Transfers for Sample {
    fn on_transfer(call: &Call, request: &TransferRequest) -> Result<Option<TransferAnswer>> {
        let number: u32 = request.parse()?;
        Ok(match number {
            0 => None,
            1 => Some(TransferAnswer::raw("{1")),
            _ => Some(TransferAnswer::new(&json!({ "id": call.id(), "number": number }))?),
        })
    }
}

crate::export!(Sample: Router + Observer + Tools + Transfers);

#[test]
fn plugin_reads_settings_and_logs() {
    let host = Host::new().with_config("limit", "7").with_config("names", r#"["a","b"]"#);
    assert_eq!(host.decide::<Sample>(&Call::new("1")).unwrap(), reject("7 a b"));
    assert_eq!(host.log(), [(Level::Warn, "about to read".to_owned())]);
}

#[test]
fn invalid_setting_is_named_in_error() {
    let host = Host::new().with_config("limit", "many");
    let error = host.decide::<Sample>(&Call::new("1")).unwrap_err().to_string();
    assert_eq!(error, "[config] `limit`: invalid digit found in string");
}

#[test]
#[should_panic(expected = "outside of a plugin")]
fn host_function_panics_outside_of_plugin() {
    config::get("x");
}

#[test]
fn observer_receives_event_and_stores_value() {
    let body = EventBody::Transcription { role: Role::Agent, text: "Hello".to_owned() };
    let event = Event::new(Call::new("c"), body);
    let host = Host::new().with_kv("c", "41");
    host.observe::<Sample>(&event).unwrap();
    assert_eq!(host.kv("c").unwrap(), b"42");
    assert_eq!(host.log(), [(Level::Debug, "agent: Hello".to_owned())]);

    let error = Host::new().without_kv().observe::<Sample>(&event).unwrap_err().to_string();
    assert_eq!(error, "kv: not granted; the plugin's settings need `[grants] kv = true`");
}

#[test]
fn values_expire_after_ttl() {
    let host = Host::new();
    let second = Duration::from_secs(1);
    host.run(|| {
        kv::set("permanent", "1").unwrap();
        kv::set_for("temporary", "1", second).unwrap();
        kv::set_json_for("kept", &1, second).unwrap();
        kv::set_json("kept", &1).unwrap();
        // The time to live of a number starts when the number is created.
        kv::increment_for("number", 1, second).unwrap();
        host.advance(second / 2);
        assert_eq!(kv::increment_for("number", 1, second).unwrap(), 2);
        assert_eq!(kv::get_text("temporary").unwrap().as_deref(), Some("1"));
        host.advance(second / 2);
        assert_eq!(kv::get("temporary").unwrap(), None);
        assert_eq!(kv::increment("number", -5).unwrap(), -5);
        assert_eq!(kv::get_json::<u8>("permanent").unwrap(), Some(1));
        assert_eq!(kv::get_json::<u8>("kept").unwrap(), Some(1));
        assert!(kv::delete("permanent").unwrap());
        assert!(!kv::delete("permanent").unwrap());
    });
}

#[test]
fn kv_errors_do_not_quote_values() {
    let host = Host::new()
        .with_kv("text", "a caller's words")
        .with_kv("bytes", [0xff])
        .with_kv("most", i64::MAX.to_string());
    host.run(|| {
        assert_eq!(kv::increment("text", 1), Err(kv::Error::NotANumber));
        assert_eq!(kv::increment("most", 1), Err(kv::Error::NotANumber));
        assert!(matches!(kv::set("", "x"), Err(kv::Error::TooLarge(_))));
        let error = kv::get_json::<u8>("text").unwrap_err();
        assert_eq!(error.to_string(), "kv: the value does not match the type u8");
        assert_eq!(kv::get_text("bytes").unwrap_err().to_string(), "kv: the value is not UTF-8");
    });
}

#[test]
fn swap_requires_expected_value() {
    let host = Host::new();
    let second = Duration::from_secs(1);
    host.run(|| {
        assert!(!kv::compare_and_swap("k", Some(b"a"), "b").unwrap());
        assert!(kv::compare_and_swap("k", None, "a").unwrap());
        assert!(!kv::compare_and_swap("k", None, "b").unwrap());
        assert!(kv::compare_and_swap_for("k", Some(b"a"), "b", second).unwrap());
        assert_eq!(kv::get("k").unwrap().unwrap(), b"b");
        host.advance(second);
        assert_eq!(kv::get("k").unwrap(), None);
    });
}

#[test]
fn update_retries_up_to_limit() {
    let add = || kv::update_json("k", |old: Option<u32>| old.unwrap_or_default() + 1);
    let host = Host::new().with_contention(15);
    assert_eq!(host.run(add).unwrap(), 1);
    assert_eq!(host.run(add).unwrap(), 2);
    let error = host.clone().with_contention(16).run(add).unwrap_err();
    assert_eq!(error.to_string(), kv::Error::Contended.to_string());
    assert_eq!(host.kv("k").unwrap(), b"2");

    let second = Duration::from_secs(1);
    host.run(|| kv::update_json_for("k", second, |old: Option<u32>| old.unwrap_or(9))).unwrap();
    host.advance(second);
    assert_eq!(host.kv("k"), None);
}

#[test]
fn responses_are_used_in_order() {
    let url = "http://crm:8080/a?b";
    let host = Host::new()
        .with_response("GET", url, 200, r#"{"vip":"a caller's number"}"#)
        .with_response("GET", url, 500, "a caller's words")
        .with_http_error("GET", url, http::Error::Timeout);
    host.run(|| {
        let response = http::get(url).header("Accept", "text/plain").send().unwrap().ok().unwrap();
        assert!(response.text().unwrap().starts_with("{\"vip\""));
        let error = response.json::<Vec<u8>>().unwrap_err().to_string();
        assert_eq!(error, "http: the body does not match the type alloc::vec::Vec<u8>");
        let response = http::get(url).send().unwrap();
        assert_eq!((response.status(), response.is_success()), (500, false));
        assert_eq!(
            response.ok().unwrap_err().to_string(),
            "http: the response has status 500, not 2xx"
        );
        assert_eq!(http::get(url).send(), Err(http::Error::Timeout));
        assert_eq!(http::get(url).send(), Err(http::Error::NotGranted("crm:8080".to_owned())));
        let body = http::post(url).json(&[1, 2]).unwrap().timeout(Duration::from_secs(1));
        body.send().unwrap_err();
    });
    let requests = host.requests();
    assert_eq!(requests.len(), 5);
    assert_eq!(requests[0].header_value("accept"), Some("text/plain"));
    assert_eq!((&*requests[4].method, &*requests[4].body), ("POST", b"[1,2]".as_slice()));
    assert_eq!(requests[4].header_value("content-type"), Some("application/json"));
    assert_eq!(requests[4].timeout, Some(Duration::from_secs(1)));
}

#[test]
fn header_lookup_ignores_case() {
    let headers = vec![("X-Limit".to_owned(), "3".to_owned())];
    let response = Response { status: 200, headers, body: vec![0xff] };
    assert_eq!(response.header("x-limit"), Some("3"));
    assert_eq!(response.header("x-other"), None);
    assert_eq!(response.body(), [0xff]);
    assert!(response.text().is_err());
}

#[test]
fn metrics_are_recorded_by_name_and_labels() {
    let host = Host::new();
    host.run(|| {
        metrics::count("calls", &[("a", "1"), ("b", "2")], 2).unwrap();
        metrics::count("calls", &[("b", "2"), ("a", "1")], 1).unwrap();
        metrics::count("calls", &[], 1).unwrap();
        metrics::observe("seconds", &[], 0.5).unwrap();
        assert!(matches!(metrics::observe("calls", &[], 1.0), Err(metrics::Error::Invalid(_))));
        assert!(matches!(metrics::count("seconds", &[], 1), Err(metrics::Error::Invalid(_))));
        for name in ["", "1a", "a-b", "é"] {
            assert!(matches!(metrics::count(name, &[], 1), Err(metrics::Error::Invalid(_))));
            let labels = [(name, "x")];
            assert!(matches!(metrics::count("c", &labels, 1), Err(metrics::Error::Invalid(_))));
        }
    });
    assert_eq!(host.counter("calls", &[("a", "1"), ("b", "2")]), 3);
    assert_eq!(host.counter("calls", &[]), 1);
    assert_eq!(host.counter("never", &[]), 0);
    assert_eq!(host.observed("seconds", &[]), [0.5]);
    let refused = host.without_metrics().run(|| metrics::count("calls", &[], 1));
    assert_eq!(refused, Err(metrics::Error::NotGranted));
}

#[test]
fn tool_calls_return_result_or_error() {
    let host = Host::new().with_kv("c", "41");
    assert_eq!(host.tool_names::<Sample>(), ["count", "limit"]);
    let call_tool = |name, arguments| host.invoke::<Sample>(&Call::new("c"), name, arguments);
    assert_eq!(call_tool("count", json!(1)).unwrap(), json!(42));
    assert_eq!(host.kv("c").unwrap(), b"42");
    let error = call_tool("count", json!("391")).unwrap_err();
    assert_eq!(error.message(), "invalid arguments: expected i64, got a string");
    // The agent and the operator get different messages.
    assert_eq!(call_tool("limit", json!(null)).unwrap_err().code(), Some(ToolError::INTERNAL));
    assert_eq!(host.log()[0].1, "tool `limit`: [config] has no `limit`");
    assert_eq!(call_tool("other", json!(1)).unwrap_err().code(), Some(ToolError::UNKNOWN_TOOL));
}

#[test]
fn tool_cache_returns_ttl_and_vary() {
    let host = Host::new();
    let cache = (Duration::from_secs(60), vec!["to".to_owned()]);
    assert_eq!(host.tool_cache::<Sample>("limit"), Some(cache));
    assert_eq!(host.tool_cache::<Sample>("count"), None);
    assert_eq!(host.tool_cache::<Sample>("other"), None);
}

#[test]
fn plugin_decides_transfers() {
    let ask = |request| Host::new().transfer::<Sample>(&Call::new("c"), request);
    assert_eq!(ask(json!(0)).unwrap(), None);
    assert_eq!(ask(json!(2)).unwrap(), Some(json!({"id": "c", "number": 2})));
    let error = ask(json!(1)).unwrap_err().to_string();
    assert!(error.starts_with("the answer is not JSON: "), "{error}");
    let error = ask(json!("391")).unwrap_err().to_string();
    assert_eq!(error, "the transfer request does not match the type u32");
}
