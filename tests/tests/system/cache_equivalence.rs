//! Property test: random calls get the same answers from random plugin chains with and
//! without the cache.

use std::fmt::Write;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder, call_initiated, guest_bytes};

const FIELDS: [&str; 6] = ["from", "to", "agent", "channel", "id", "platform"];
const VALUES: [&str; 4] = ["-", "1", "2", "3"];
const PLATFORMS: [&str; 2] = ["avr", "dsai"];

/// Generates settings of the guest `rules`.
fn any_plugin() -> impl Strategy<Value = String> {
    let rule = (0..FIELDS.len(), 0..VALUES.len(), 0..7usize).prop_map(|(field, value, outcome)| {
        let (field, value) = (FIELDS[field], VALUES[value]);
        let value = match field {
            // Metadata is compared as JSON.
            "channel" if value != "-" => format!("\"{value}\""),
            "platform" => PLATFORMS[usize::from(value == "1")].to_owned(),
            _ => value.to_owned(),
        };
        let outcome = match outcome {
            0 | 1 => "pass",
            2 => "reject no",
            3 => "error boom",
            4 => "route ws://a/{from}?u={id}",
            5 => "route ws://b/?c={channel}&u={id}",
            _ => "route ftp://no",
        };
        format!("{field} {value} {outcome}")
    });
    let last = prop_oneof![Just("* * pass"), Just("* * route ws://last/?u={id}")];
    let settings = (any::<bool>(), prop_oneof![Just(0), Just(60_000)], any::<bool>());
    (prop::collection::vec(rule, 0..4), last, settings).prop_map(
        |(rules, last, (stop, ttl, matched))| {
            let mut text = String::new();
            if stop {
                text += "on_failure = 'stop'\n";
            }
            if matched {
                text += "[match]\nfrom = ['1', '2*']\n";
            }
            write!(text, "[config]\nttl_ms = {ttl}\nrules = '''{}\n{last}'''\n", rules.join("\n"))
                .unwrap();
            text
        },
    )
}

/// Generates the fields of a call, which have one of few values or are absent.
fn any_call() -> impl Strategy<Value = ([usize; 5], bool)> {
    (std::array::from_fn::<_, 5, _>(|_| 0..VALUES.len()), any::<bool>())
}

async fn answer(
    server: &Server,
    client: &reqwest::Client,
    (fields, dsai): ([usize; 5], bool),
) -> Value {
    let [from, to, agent, channel, id] = fields.map(|value| VALUES[value]);
    let mut body: Value = serde_json::from_str(&call_initiated()).unwrap();
    body["uuid"] = json!(id);
    let mut payload = serde_json::Map::new();
    // The guest reads `platform` as the platform of the call. Metadata of that name must
    // have no effect.
    for (name, value) in [("from", from), ("to", to), ("channel", channel), ("platform", id)] {
        if value != "-" {
            payload.insert(name.to_owned(), json!(value));
        }
    }
    body["payload"] = Value::Object(payload);
    // An empty secret does not authenticate, but its header selects the platform.
    let headers = match dsai {
        true => [("x-dsai-webhook-secret", ""), ("x-dsai-agent-id", agent)],
        false => [("x-avr-webhook-secret", ""), ("x-avr-agent-id", agent)],
    };
    let headers = if agent == "-" { &headers[..1] } else { &headers };
    server.post_with_client(client, headers, body.to_string()).await.body
}

/// The plugins name every field that they read.
#[test]
fn answers_are_equal_with_and_without_cache() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = PluginFolder::new();
    let serve = |enabled| {
        ServerBuilder::new(folder.path())
            .env("PLUGBOARD_CACHE_ENABLED", enabled)
            .env("PLUGBOARD_FALLBACK_STS_URL", "ws://fallback/{id}")
            .env("PLUGBOARD_RELOAD_WATCH", "false")
            .env("PLUGBOARD_RELOAD_POLL_INTERVAL", "1h")
            // No circuit breaker, because cache hits would change its failure count.
            .env("PLUGBOARD_CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0")
            .start()
    };
    let (with, without, client) = (serve("true"), serve("false"), tests::client());
    let places = ["10-a", "20-b", "30-c"];
    for place in places {
        std::fs::write(folder.file(place, "wasm"), guest_bytes("rules")).unwrap();
    }
    let chain = prop::collection::vec(any_plugin(), places.len());
    let input = (chain, prop::collection::vec(any_call(), 1..40));
    let mut runner =
        TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let done = runner.run(&input, |(chain, calls)| {
        for (place, settings) in places.iter().zip(&chain) {
            std::fs::write(folder.file(place, "toml"), settings).unwrap();
        }
        runtime.block_on(async {
            for server in [&with, &without] {
                let report = server.reload().await;
                prop_assert_eq!(&report["failed"], &json!([]));
            }
            for call in calls {
                let (one, other) =
                    tokio::join!(answer(&with, &client, call), answer(&without, &client, call));
                prop_assert_eq!(one, other, "{:?}", call);
            }
            Ok(())
        })
    });
    done.unwrap();
    // Without cache hits the comparison proves no property of the cache.
    let hits = runtime.block_on(with.metrics_text());
    let hits: u64 = hits
        .lines()
        .filter(|line| line.starts_with("plugboard_cache_requests_total") && line.contains("hit"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    println!("{hits} answers from the cache");
    assert!(hits > 100, "{hits}");
}
