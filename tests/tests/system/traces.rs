//! OpenTelemetry traces: spans with their parents and attributes, sampling, and privacy.

mod collector_failure;
mod otlp;

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, ServerBuilder, blackbox_document, call_initiated,
    call_initiated_for,
};

use self::otlp::{Behaviour, Otlp, children};

/// Numbers of both sides of a call. They appear in no span.
const FROM: &str = "+4930123456789";
const TO: &str = "+4930987654321";

/// Sampled trace to which a webhook belongs, as its sender states in `traceparent`.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Returns a call from [`FROM`] to [`TO`] with a script for the fixture guest `reaches`.
fn call_with_script(uuid: &str, script: &str) -> String {
    let mut body: Value = serde_json::from_str(&call_initiated_for(uuid, TO)).unwrap();
    body["payload"]["from"] = json!(FROM);
    body["payload"]["script"] = json!(script);
    body.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decision_trace_contains_plugins_and_host_calls() {
    let (otlp, crm) = (Otlp::start(Behaviour::Accepts).await, Collector::start().await);
    crm.respond_with(418, &[], "short and stout");
    let settings =
        format!("limits.timeout = '2s'\n[grants]\nkv = true\nhttp = ['{}']\n", crm.address());
    let folder = PluginFolder::new()
        .with_guest("10-passes", "passes")
        .with_guest("20-errs", "errs")
        .with_guest("50-reaches", "reaches")
        .with_settings("50-reaches", &settings)
        .with_guest("60-never", ROUTING_GUEST);
    let server = otlp
        .configure(ServerBuilder::new(folder.path()))
        .env("PLUGBOARD_TRACES_HEADERS", "Authorization: Bearer s3cret, X-Tenant: voice")
        .env("PLUGBOARD_TRACES_SERVICE_NAME", "routing")
        .start();
    let script = format!(
        "kv.set caller/{FROM} prefers-blue\nkv.get caller/{FROM}\nkv.increment caller/{FROM} 1\n\
         http.POST {} asks-for-red\nhttp.GET http://{FROM}.example.com/",
        crm.url(&format!("/by-number/{FROM}?called={TO}"))
    );
    let answer = server.post(call_with_script("the-call", &script)).await;
    assert_eq!(answer.status, 200);
    let trace = otlp.webhook(1).await;
    let root = &trace[0];
    assert_eq!((root.name.as_str(), &*root.parent, root.failed), ("webhook", "", false));
    assert_eq!(root.kind, SpanKind::Server);
    for (name, value) in [
        ("http.request.method", json!("POST")),
        ("url.path", json!("/events")),
        ("http.response.status_code", json!(200)),
        ("webhook.kind", json!("decision")),
        ("webhook.outcome", json!("reject")),
        ("webhook.replayed", json!(false)),
        ("call.id", json!("the-call")),
        ("call.platform", json!("avr")),
        ("plugin.name", json!("50-reaches")),
        ("plugin.source", json!("plugin")),
    ] {
        assert!(root.has(name, &value), "{name}: {root:#?}");
    }
    let plugins = children(&trace, root);
    let outcomes: Vec<_> = plugins
        .iter()
        .map(|span| {
            assert_eq!((span.name.as_str(), span.get("plugin.hook")), ("plugin", &json!("router")));
            assert_eq!(span.get("plugin.version").as_str().unwrap().len(), 64);
            assert!(span.start >= root.start && span.end <= root.end, "{span:?} in {root:?}");
            let name = |name| span.get(name).as_str().unwrap_or("-").to_owned();
            (name("plugin.name"), name("plugin.outcome"), name("error.type"), span.failed)
        })
        .collect();
    let row = |name: &str, outcome: &str, error: &str, failed| {
        (name.to_owned(), outcome.to_owned(), error.to_owned(), failed)
    };
    assert_eq!(
        outcomes,
        [
            row("10-passes", "pass", "-", false),
            row("20-errs", "failed", "guest_error", true),
            row("50-reaches", "reject", "-", false),
        ]
    );
    let host_calls = children(&trace, plugins[2]);
    let names: Vec<_> = host_calls.iter().map(|span| (span.name.as_str(), span.failed)).collect();
    assert_eq!(
        names,
        [
            ("kv.set", false),
            ("kv.get", false),
            ("kv.increment", true),
            ("http", false),
            ("http", true)
        ]
    );
    let key = json!("caller/".len() + FROM.len());
    assert!(
        host_calls[0].has("kv.key.length", &key)
            && host_calls[0].has("kv.value.length", &json!(12))
    );
    assert!(host_calls[2].has("error.type", &json!("not_a_number")), "{:?}", host_calls[2]);
    let (host, port) =
        crm.address().split_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    for (name, value) in [
        ("http.request.method", json!("POST")),
        ("server.address", json!(host)),
        ("server.port", json!(port.parse::<u16>().unwrap())),
        ("http.response.status_code", json!(418)),
    ] {
        assert!(host_calls[3].has(name, &value), "{name}: {:?}", host_calls[3]);
    }
    assert_eq!(host_calls[3].kind, SpanKind::Client);
    // A host without a grant can be any text, so the span omits it.
    assert!(host_calls[4].has("error.type", &json!("not_granted")), "{:?}", host_calls[4]);
    assert_eq!(host_calls[4].get("server.address"), &Value::Null);
    assert_eq!(trace.len(), 1 + plugins.len() + host_calls.len(), "{trace:#?}");
    // No field of a span contains text from the caller or from a plugin.
    for text in
        [FROM, TO, "4930", "blue", "red", "by-number", "caller", "1770758888", "PJSIP", "stout"]
    {
        assert!(!otlp.has_received(text), "{text}");
    }
    let headers = otlp.requests(|request| {
        let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            (request.path.as_str(), request.resource["service.name"].as_str()),
            ("/v1/traces", Some("routing"))
        );
        (header("authorization"), header("x-tenant"), header("content-type"))
    });
    let owned = |text: &str| text.to_owned();
    let expected = (owned("Bearer s3cret"), owned("voice"), owned("application/x-protobuf"));
    assert_eq!(headers[0], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_contains_no_spans_at_trace_level() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("90-observer", "observer");
    let setup = || {
        ServerBuilder::new(folder.path())
            .env("PLUGBOARD_LOG_LEVEL", "trace,plugboard::span=trace,plugboard::span::root=trace")
    };
    let traced = otlp.configure(setup()).env("PLUGBOARD_TRACES_HEADERS", "X-Key: s3cret");
    for setup in [traced, setup()] {
        let mut server = setup.start();
        server.post(call_initiated()).await;
        let log = server.stop();
        assert!(log.contains("\"decided\"") && log.contains("\"TRACE\""), "{log}");
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            // Libraries have their own spans at this level.
            let spans = line["spans"].as_array().into_iter().flatten();
            let exported = spans.map(|span| span["name"].as_str().unwrap()).find(|name| {
                ["webhook", "plugin", "journal.append", "observe", "load"].contains(name)
            });
            assert_eq!(exported, None, "{line}");
            let text = line.to_string();
            assert!(!text.contains("plugboard::span") && !text.contains("s3cret"), "{line}");
        }
    }
    assert!(!otlp.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_shows_cached_and_replayed_answers() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new().with_guest("10-alpha", "alpha");
    let server = otlp.configure(ServerBuilder::new(folder.path())).start();
    let (first, second) = (call_initiated(), call_initiated());
    server.post(first).await;
    server.post(second.clone()).await;
    let trace = otlp.webhook(2).await;
    let [webhook, plugin] = &trace[..] else { panic!("{trace:#?}") };
    assert!(webhook.has("plugin.source", &json!("cache")), "{webhook:?}");
    assert!(plugin.has("plugin.source", &json!("cache")), "{plugin:?}");
    assert!(plugin.has("plugin.outcome", &json!("route")), "{plugin:?}");
    assert_eq!(plugin.parent, webhook.id);
    server.post(second).await;
    let trace = otlp.webhook(3).await;
    let [webhook] = &trace[..] else { panic!("{trace:#?}") };
    assert!(webhook.has("webhook.replayed", &json!(true)), "{webhook:?}");
    assert!(webhook.has("webhook.outcome", &json!("route")), "{webhook:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observers_have_traces_separate_from_webhook() {
    let (otlp, crm) = (Otlp::start(Behaviour::Accepts).await, Collector::start().await);
    let settings = format!(
        "grants.http = ['{}']\n[config]\ndo = 'collect'\nurl = '{}'\n",
        crm.address(),
        crm.url("/events")
    );
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("90-observer", "observer")
        .with_settings("90-observer", &settings)
        .with_guest("91-fails", "observer")
        .with_settings("91-fails", "events.kinds = ['routed']\nconfig.do = 'error'\n");
    let server = otlp
        .configure(ServerBuilder::new(folder.path()))
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "2")
        .start();
    server.post(call_initiated()).await;
    let trace = otlp.webhook(1).await;
    let names: Vec<_> = trace.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["webhook", "plugin", "journal.append"]);
    assert!(trace[1..].iter().all(|span| span.parent == trace[0].id), "{trace:#?}");
    let body =
        tests::user_transcription("935652e3-7c59-4edc-b17f-9646a9c2a265", 1, "the-caller-says-so");
    server.post(body).await;
    let trace = otlp.webhook(2).await;
    let names: Vec<_> = trace.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["webhook", "journal.append"]);
    assert!(trace[0].has("webhook.kind", &json!("events")), "{trace:?}");
    assert!(trace[0].has("events.count", &json!(1)), "{trace:?}");
    assert_eq!(trace[1].parent, trace[0].id);
    let spans = otlp
        .wait_for(|spans| spans.iter().filter(|span| span.name == "observe").count() >= 5)
        .await;
    let observed: Vec<_> = spans.iter().filter(|span| span.name == "observe").collect();
    let attempts_of = |name: &str, failed: bool| {
        let mut kinds: Vec<_> = observed
            .iter()
            .filter(|span| span.get("plugin.name") == name && span.failed == failed)
            .map(|span| {
                assert_eq!((span.parent.as_str(), span.kind), ("", SpanKind::Consumer));
                let kind = span.get("event.kind").as_str().unwrap();
                (kind.to_owned(), span.get("event.attempt").clone())
            })
            .collect();
        kinds.sort_by_key(|(kind, attempt)| (kind.clone(), attempt.as_i64()));
        kinds
    };
    let row = |kind: &str, attempt: u32| (kind.to_owned(), json!(attempt));
    assert_eq!(
        attempts_of("90-observer", false),
        [row("initiated", 1), row("routed", 1), row("transcription", 1)]
    );
    assert_eq!(attempts_of("91-fails", true), [row("routed", 1), row("routed", 2)]);
    let traces: std::collections::HashSet<_> = observed.iter().map(|span| &span.trace).collect();
    assert_eq!(traces.len(), observed.len());
    let transcription =
        observed.iter().find(|span| span.get("event.kind") == "transcription").unwrap();
    let host_calls = children(&spans, transcription);
    assert_eq!(
        (host_calls.len(), host_calls[0].name.as_str(), &host_calls[0].trace),
        (1, "http", &transcription.trace)
    );
    assert!(!otlp.has_received("the-caller-says-so"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_in_own_task_stays_in_webhook_trace() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let settings = "grants.kv = true\n[config]\nnames = 'book'\ndo = 'cached'\nttl_ms = 60000\n";
    let folder = PluginFolder::new()
        .with_guest("10-tools", "tools")
        .with_settings("10-tools", settings)
        .with_guest("20-transfers", "transfers");
    let server = otlp.configure(ServerBuilder::new(folder.path())).enable_blackbox().start();
    let tool_request = |tool: &str| {
        let mut document = blackbox_document("tool.json", "the-call");
        document["toolName"] = json!(tool);
        document["arguments"] = json!({ "name": "Ada-Lovelace" });
        document.to_string()
    };
    for (nth, source) in ["plugin", "cache"].into_iter().enumerate() {
        let ran = nth == 0;
        assert_eq!(server.post_blackbox(tool_request("book")).await.status, 200);
        let trace = otlp.webhook(nth + 1).await;
        let (webhook, plugin) = (&trace[0], &trace[1]);
        // The tool counts its requests, in its own task.
        let host_calls = children(&trace, plugin);
        let names: Vec<_> =
            host_calls.iter().map(|span| (span.name.as_str(), span.failed)).collect();
        assert_eq!(names, if ran { vec![("kv.increment", false)] } else { vec![] });
        assert_eq!(trace.len(), 2 + host_calls.len(), "{trace:#?}");
        for (name, value) in [
            ("url.path", "/blackbox"),
            ("webhook.kind", "tool"),
            ("webhook.outcome", "value"),
            ("tool.name", "book"),
            ("call.id", "the-call"),
            ("plugin.name", "10-tools"),
            ("plugin.source", source),
        ] {
            assert!(webhook.has(name, &json!(value)), "{name}: {webhook:#?}");
        }
        assert_eq!((plugin.name.as_str(), &plugin.parent), ("plugin", &webhook.id));
        assert!(plugin.has("plugin.hook", &json!("tools")), "{plugin:?}");
        assert!(plugin.has("plugin.source", &json!(source)), "{plugin:?}");
        assert!(plugin.has("plugin.outcome", &json!("answered")), "{plugin:?}");
    }
    // The name of an unknown tool can be any text.
    assert_eq!(server.post_blackbox(tool_request("call-back-Ada")).await.status, 404);
    let trace = otlp.webhook(3).await;
    assert!(trace[0].has("webhook.outcome", &json!("unknown")), "{trace:?}");
    assert!(trace[0].has("http.response.status_code", &json!(404)), "{trace:?}");
    let transfer = blackbox_document("transfer.json", "the-call").to_string();
    assert_eq!(server.post_blackbox(transfer).await.status, 200);
    let trace = otlp.webhook(4).await;
    assert!(trace[0].has("webhook.kind", &json!("transfer")), "{trace:?}");
    assert!(trace[1].has("plugin.hook", &json!("transfers")), "{trace:?}");
    assert_eq!(trace[1].parent, trace[0].id);
    for text in ["Ada", "Lovelace", "14155551234"] {
        assert!(!otlp.has_received(text), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugin_load_has_own_trace() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_bytes("20-broken", b"nothing");
    let _server = otlp.configure(ServerBuilder::new(folder.path())).start();
    let spans = otlp.wait_for(|spans| spans.len() == 2).await;
    assert!(spans.iter().all(|span| span.name == "load" && span.parent.is_empty()), "{spans:?}");
    let span_of = |name: &str| spans.iter().find(|span| span.get("plugin.name") == name).unwrap();
    assert!(!span_of("10-good").failed);
    assert!(
        span_of("20-broken").failed && span_of("20-broken").has("error.type", &json!("not_wasm"))
    );
}

/// Posts a call with a secret and an optional `traceparent`, and returns the status.
async fn post(server: &tests::Server, secret: &str, parent: Option<&str>) -> u16 {
    let mut headers = vec![("X-AVR-WEBHOOK-SECRET", secret)];
    headers.extend(parent.map(|parent| ("traceparent", parent)));
    headers.push(("tracestate", "vendor=+4930123456789"));
    server.post_with_client(&tests::client(), &headers, call_initiated()).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_continues_when_sender_has_secret() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let setup = || otlp.configure(ServerBuilder::new(folder.path())).env("WEBHOOK_SECRET", "s");
    let mut server = setup().start();
    let sampled = traceparent("01");
    assert_eq!(post(&server, "s", Some(&sampled)).await, 200);
    let trace = otlp.webhook(1).await;
    assert_eq!((trace[0].trace.as_str(), trace[0].parent.as_str()), (TRACE, PARENT));
    assert_eq!((trace[1].trace.as_str(), &trace[1].parent), (TRACE, &trace[0].id));
    assert_eq!(post(&server, "wrong", Some(&sampled)).await, 401);
    let trace = otlp.webhook(2).await;
    assert!(trace[0].trace != TRACE && trace[0].parent.is_empty(), "{trace:?}");
    for (name, value) in [
        ("http.response.status_code", json!(401)),
        ("webhook.outcome", json!("rejected")),
        ("error.type", json!("unauthorized")),
        ("webhook.kind", Value::Null),
    ] {
        assert!(trace[0].has(name, &value), "{name}: {trace:?}");
    }
    assert!(!trace[0].failed, "it is the sender's error: {trace:?}");
    // The sender does not sample this trace.
    assert_eq!(post(&server, "s", Some(&traceparent("00"))).await, 200);
    server.stop();
    let webhooks = || otlp.spans().into_iter().filter(|span| span.name == "webhook").count();
    assert_eq!(webhooks(), 2);
    // At a tiny ratio, the server exports a sampled trace only if its sender has the secret.
    let mut server = setup().env("PLUGBOARD_TRACES_SAMPLE_RATIO", "0.000000001").start();
    assert_eq!(post(&server, "wrong", Some(&sampled)).await, 401);
    assert_eq!(post(&server, "s", None).await, 200);
    assert_eq!(post(&server, "s", Some(&sampled)).await, 200);
    server.stop();
    assert_eq!(webhooks(), 3);
    let trace = otlp.webhook(3).await;
    assert_eq!((trace[0].trace.as_str(), trace[0].parent.as_str()), (TRACE, PARENT));
    assert!(!otlp.has_received("4930123456789"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parent_is_ignored_when_server_has_no_secret() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = otlp.configure(ServerBuilder::new(folder.path())).start();
    assert_eq!(post(&server, "any", Some(&traceparent("01"))).await, 200);
    let trace = otlp.webhook(1).await;
    assert!(trace[0].trace != TRACE && trace[0].parent.is_empty(), "{trace:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zero_sample_ratio_exports_no_spans() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("90-observer", "observer");
    let mut server = otlp
        .configure(ServerBuilder::new(folder.path()))
        .env("WEBHOOK_SECRET", "s")
        .env("PLUGBOARD_TRACES_SAMPLE_RATIO", "0")
        .start();
    assert_eq!(post(&server, "s", Some(&traceparent("01"))).await, 200);
    assert_eq!(post(&server, "s", None).await, 200);
    server.stop();
    assert!(otlp.requests(|_| ()).is_empty(), "{:?}", otlp.spans());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sample_ratio_exports_half_of_traces() {
    let otlp = Otlp::start(Behaviour::Accepts).await;
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let mut server = otlp
        .configure(ServerBuilder::new(folder.path()))
        .env("PLUGBOARD_TRACES_SAMPLE_RATIO", "0.5")
        .start();
    let client = tests::client();
    for _ in 0..400 {
        server.post_with_client(&client, &[], call_initiated()).await;
    }
    server.stop();
    let spans = otlp.spans();
    let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
    // The limits are ten standard deviations from the mean.
    assert!((100..300).contains(&count("webhook")), "{}", count("webhook"));
    // A trace is exported as a whole or not at all.
    assert_eq!(count("plugin"), count("webhook"));
}
