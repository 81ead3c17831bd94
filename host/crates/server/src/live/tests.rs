//! What is kept, for how long, and how much of it; who is told, and who is not.

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::calls::LiveCalls;
use super::message::FeedItem;
use super::*;
use plugboard_core::event::{CallEnding, CallOutcome, EventBody};
use plugboard_core::platforms::PLATFORMS;
use plugboard_core::testing::call;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For what should come at once but may be slow on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A live feed that runs until the test ends.
fn start_live(max_age: Duration) -> Live {
    let (live, task) = Live::new(max_age);
    tokio::spawn(task.run(CancellationToken::new()));
    live
}

fn call_with_id(id: &str) -> Arc<Call> {
    let mut call = call("+14155550199", "5001", "{}");
    call.id = id.into();
    Arc::new(call)
}

fn decision_activity(source: &'static str) -> ActivityKind {
    ActivityKind::Decision(DecisionSummary {
        plugin: Some("10-a".into()),
        outcome: "route",
        source,
        failures: 0,
        has_prompt: false,
        is_rejected: false,
        took: Duration::from_micros(120),
    })
}

fn event_activity(kind: &'static str) -> ActivityKind {
    ActivityKind::Event(EventSummary { kind, detail: None, ends_call: kind == "ended" })
}

fn call_selector(id: &str) -> CallSelector {
    CallSelector::new(id, None).unwrap()
}

fn document(calls: &LiveCallsSnapshot) -> Value {
    serde_json::to_value(calls.document(Masking::Masked)).unwrap()
}

/// The calls that are known, in order.
fn ids(calls: &LiveCallsSnapshot) -> Vec<String> {
    let document = document(calls);
    let calls = document["calls"].as_array().unwrap().iter();
    calls.map(|call| call["call"].as_str().unwrap().to_owned()).collect()
}

/// The next message: its type, and its document.
async fn next(reader: &mut LiveSubscriber) -> (&'static str, Value) {
    let item = timeout(TIMEOUT, reader.next()).await.unwrap().unwrap();
    let LiveMessage { kind, data } = item.message(Masking::Masked);
    (kind, serde_json::from_str(&data).unwrap())
}

/// What waits for a reader until it has caught up.
async fn read_history(reader: &mut LiveSubscriber) -> Vec<(&'static str, Value)> {
    let mut past = Vec::new();
    loop {
        match next(reader).await {
            ("caught_up", _) => return past,
            message => past.push(message),
        }
    }
}

#[tokio::test]
async fn subscriber_receives_history_then_new_activities() {
    let live = start_live(DAY);
    live.record(&call_with_id("a"), decision_activity("ran"));
    live.record(&call_with_id("a"), event_activity("started"));
    live.record(
        &call_with_id("a"),
        ActivityKind::MidCallRequest(MidCallRequest::tool(
            "order_state",
            Some("20-b".into()),
            "answered",
            SECOND,
        )),
    );
    let mut reader = live.subscribe().await.unwrap();
    let before = read_history(&mut reader).await;
    let kinds: Vec<_> = before.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["decision", "event", "use"]);
    let mut decision = before[0].1.clone();
    assert!(decision["at"].take().as_str().unwrap().parse::<Timestamp>().is_ok());
    let expected = json!({
        "at": null, "call": "a", "platform": "avr", "agent": null, "from": "•••• 99",
        "to": "•••• 01", "plugin": "10-a", "outcome": "route", "source": "ran", "failures": 0,
        "took_us": 120,
    });
    assert_eq!(decision, expected);
    let mut used = before[2].1.clone();
    used["at"].take();
    let expected = json!({
        "at": null, "call": "a", "platform": "avr", "what": "tool", "name": "order_state",
        "plugin": "20-b", "outcome": "answered", "took_us": 1_000_000,
    });
    assert_eq!(used, expected);
    live.record(&call_with_id("b"), decision_activity("cached"));
    let (kind, decision) = next(&mut reader).await;
    assert_eq!((kind, &decision["call"]), ("decision", &json!("b")));
    assert_eq!(decision["source"], "cached");
}

#[tokio::test]
async fn history_calls_and_timelines_are_bounded() {
    let live = start_live(DAY);
    // As many as may be on their way at a time.
    for round in 0..4 {
        for nth in 0..ACTIVITY_QUEUE_CAPACITY / 2 {
            let call = call_with_id(&format!("{round}-{nth}"));
            live.record(&call, decision_activity("ran"));
            live.record(&call, event_activity("started"));
        }
        // Which takes them off it.
        live.calls().await;
    }
    let one = call_with_id("one");
    for _ in 0..100 {
        live.record(&one, event_activity("interruption"));
    }
    let calls = live.calls().await;
    let call_ids = ids(&calls);
    assert_eq!((call_ids.len(), &*call_ids[0], &*call_ids[1]), (200, "one", "3-2047"));
    let document = document(&calls);
    assert_eq!(document["dropped"], 0);
    let call = &document["calls"][0];
    assert_eq!((call["timeline"].as_array().unwrap().len(), &call["left_out"]), (64, &json!(36)));
    let past = read_history(&mut live.subscribe().await.unwrap()).await;
    let count = |wanted| past.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!((count("decision"), count("event"), past.len()), (200, 500, 700));
}

#[tokio::test]
async fn full_queue_drops_and_counts_activities() {
    let live = start_live(DAY);
    // The task does not run before this test waits for something.
    for _ in 0..ACTIVITY_QUEUE_CAPACITY + 10 {
        live.record(&call_with_id("a"), event_activity("interruption"));
    }
    assert_eq!(document(&live.calls().await)["dropped"], 10);
    live.record(&call_with_id("b"), decision_activity("ran"));
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
}

#[tokio::test]
async fn erased_call_is_removed_everywhere() {
    let live = start_live(DAY);
    let mut reader = live.subscribe().await.unwrap();
    let (a, b) = (call_with_id("a"), call_with_id("b"));
    let memory = Arc::downgrade(&a);
    for call in [&a, &b] {
        live.record(call, decision_activity("ran"));
        live.record(call, event_activity("started"));
    }
    // In the table, in the past and before the reader; and one on its way.
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
    live.record(&a, event_activity("interruption"));
    drop(a);
    live.erase(&call_selector("a")).await;
    assert!(memory.upgrade().is_none());
    assert_eq!(ids(&live.calls().await), ["b"]);
    let later = read_history(&mut live.subscribe().await.unwrap()).await;
    let of_erased_call = later.iter().filter(|(_, it)| it["call"] == "a");
    // Who was away still shows it.
    assert_eq!(of_erased_call.map(|(kind, _)| *kind).collect::<Vec<_>>(), ["erased"]);
    assert_eq!(next(&mut reader).await.0, "caught_up");
    for kind in ["decision", "event"] {
        let (told, document) = next(&mut reader).await;
        assert_eq!((told, &document["call"]), (kind, &json!("b")));
    }
    let platforms: Vec<&str> = PLATFORMS.iter().map(|platform| platform.name).collect();
    assert_eq!(platforms[..3], ["avr", "dsai", "blackbox"]);
    let erased = json!({"call": "a", "platforms": platforms});
    assert_eq!(next(&mut reader).await, ("erased", erased));
    // Of the same name at another platform, it is another call.
    live.erase(&CallSelector::new("b", Some("blackbox")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), ["b"]);
    live.erase(&CallSelector::new("b", Some("dsai")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), [""; 0]);
}

#[tokio::test]
async fn slow_subscriber_learns_missed_count_and_others_miss_none() {
    const ALL: u64 = 3_000;
    let live = start_live(DAY);
    let (mut slow, mut quick) = (live.subscribe().await.unwrap(), live.subscribe().await.unwrap());
    assert!(read_history(&mut quick).await.is_empty());
    let call = call_with_id("a");
    for _ in 0..ALL / 100 {
        for _ in 0..100 {
            live.record(&call, event_activity("interruption"));
        }
        for _ in 0..100 {
            assert_eq!(next(&mut quick).await.0, "event");
        }
    }
    assert_eq!(next(&mut slow).await.0, "caught_up");
    let (mut received, mut missed) = (0, 0);
    while received + missed < ALL {
        match next(&mut slow).await {
            ("event", _) => received += 1,
            ("missed", document) => missed += document["count"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    assert!(missed > 0);
    assert_eq!((received, received + missed), (1_024, ALL));
    // From there on it misses nothing.
    live.record(&call, decision_activity("ran"));
    assert_eq!(next(&mut slow).await.0, "decision");
}

#[tokio::test]
async fn slow_subscriber_learns_of_calls_erased_in_the_gap() {
    let live = start_live(DAY);
    let mut reader = live.subscribe().await.unwrap();
    live.record(&call_with_id("a"), decision_activity("ran"));
    live.erase(&call_selector("a")).await;
    let fill = async || {
        for _ in 0..1_024 {
            live.record(&call_with_id("b"), event_activity("interruption"));
        }
        live.calls().await;
    };
    fill().await;
    assert_eq!(next(&mut reader).await.0, "caught_up");
    assert_eq!(next(&mut reader).await, ("missed", json!({"count": 2})));
    let (kind, erased) = next(&mut reader).await;
    assert_eq!((kind, &erased["call"]), ("erased", &json!("a")));
    for _ in 0..1_024 {
        assert_eq!(next(&mut reader).await.0, "event");
    }
    // An erasure that was received is not sent again after a later gap.
    live.erase(&call_selector("c")).await;
    assert_eq!(next(&mut reader).await.0, "erased");
    fill().await;
    live.record(&call_with_id("b"), event_activity("interruption"));
    live.calls().await;
    assert_eq!(next(&mut reader).await, ("missed", json!({"count": 1})));
    assert_eq!(next(&mut reader).await.0, "event");
}

#[tokio::test]
async fn subscribers_are_limited_and_dropped_ones_free_slots() {
    let (live, task) = Live::new(DAY);
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let mut readers = Vec::new();
    for _ in 0..MAX_SUBSCRIBERS {
        readers.push(live.subscribe().await.unwrap());
    }
    assert_eq!(live.subscribe().await.err(), Some(SubscribeError::TooMany));
    readers.pop();
    readers.push(live.subscribe().await.unwrap());
    stop.cancel();
    readers.pop();
    assert_eq!(live.subscribe().await.err(), Some(SubscribeError::Stopping));
    for mut reader in readers {
        assert!(timeout(TIMEOUT, reader.next()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn old_activities_expire_without_new_ones() {
    let live = start_live(Duration::from_millis(20));
    let call = call_with_id("a");
    let memory = Arc::downgrade(&call);
    live.record(&call, decision_activity("ran"));
    drop(call);
    let gone = async {
        while memory.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(TIMEOUT, gone).await.unwrap();
}

#[test]
fn ended_calls_come_last_and_expire() {
    let (mut calls, start) = (LiveCalls::new(DAY), Instant::now());
    let note = |calls: &mut LiveCalls, id: &str, what, seconds: u32| {
        calls.record(Activity::new(&call_with_id(id), what), start + seconds * SECOND);
    };
    for (at, id) in (0..).zip(["a", "b", "c"]) {
        note(&mut calls, id, decision_activity("ran"), at);
    }
    note(&mut calls, "c", event_activity("ended"), 10);
    note(&mut calls, "a", event_activity("ended"), 20);
    // What comes late changes nothing.
    note(&mut calls, "c", event_activity("error"), 30);
    note(&mut calls, "c", decision_activity("repeated"), 30);
    let now = calls.snapshot(0);
    assert_eq!(ids(&now), ["b", "a", "c"]);
    let shown = document(&now);
    assert_eq!(shown["calls"][0]["ended"], Value::Null);
    assert!(shown["calls"][2]["ended"].is_string());
    let of_c = shown["calls"][2]["timeline"].as_array().unwrap();
    let kinds: Vec<_> = of_c.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["decision", "event", "event", "decision"]);
    assert_eq!(calls.next_expiry(), Some(start + 310 * SECOND));
    calls.remove_expired(start + 309 * SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["b", "a", "c"]);
    calls.remove_expired(start + 310 * SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["b", "a"]);
    // Another call of the same name starts anew.
    note(&mut calls, "a", decision_activity("ran"), 311);
    let shown = document(&calls.snapshot(0));
    assert_eq!(
        (&shown["calls"][0]["call"], &shown["calls"][0]["ended"]),
        (&json!("a"), &json!(null))
    );
    assert_eq!(shown["calls"][0]["timeline"].as_array().unwrap().len(), 1);
    // One that never ends is not kept for ever.
    calls.remove_expired(start + DAY + SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["a"]);
}

#[test]
fn full_table_evicts_ended_calls_then_most_silent() {
    let (mut calls, start) = (LiveCalls::new(DAY), Instant::now());
    let mut seconds = 0;
    let mut note = |calls: &mut LiveCalls, id: &str, what| {
        seconds += 1;
        calls.record(Activity::new(&call_with_id(id), what), start + seconds * SECOND);
    };
    for nth in 0..200 {
        note(&mut calls, &nth.to_string(), decision_activity("ran"));
    }
    note(&mut calls, "0", event_activity("interruption"));
    note(&mut calls, "100", event_activity("ended"));
    note(&mut calls, "200", decision_activity("ran"));
    let is_listed = |calls: &LiveCalls, id: &str| ids(&calls.snapshot(0)).iter().any(|it| it == id);
    assert!(!is_listed(&calls, "100"));
    note(&mut calls, "201", decision_activity("ran"));
    assert!(is_listed(&calls, "0") && !is_listed(&calls, "1"));
    assert_eq!(ids(&calls.snapshot(0)).len(), 200);
}

#[test]
fn event_messages_omit_speech_and_digits() {
    let event = |body| Event {
        call: call_with_id("a"),
        timestamp: Timestamp::UNIX_EPOCH,
        body,
        delivery_id: None,
    };
    let null = || serde_json::value::RawValue::NULL.to_owned();
    let secret = || "secret".to_owned();
    let ending = CallEnding {
        outcome: CallOutcome::Failed,
        reason: Some(secret()),
        duration: None,
        report: null(),
    };
    let bodies = [
        EventBody::Transcription { role: plugboard_core::event::Role::User, text: secret() },
        EventBody::DtmfDigit(secret()),
        EventBody::Error(secret()),
        EventBody::Ended(ending),
        EventBody::ToolInvoked {
            name: "a_tool".to_owned(),
            arguments: null(),
            outcome: Err(secret()),
        },
        EventBody::Other { kind: "x".repeat(1_000), payload: null() },
    ];
    let messages: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let what = ActivityKind::from(EventSummary::new(&event(body)));
            let note = Arc::new(Activity::new(&call_with_id("a"), what));
            FeedItem::Activity(note).message(Masking::Unmasked).data
        })
        .collect();
    for message in &messages {
        assert!(!message.contains("secret"), "{message}");
    }
    let detail =
        |nth: usize| serde_json::from_str::<Value>(&messages[nth]).unwrap()["detail"].clone();
    assert_eq!(detail(0), "user");
    assert_eq!((detail(1), detail(2)), (Value::Null, Value::Null));
    assert_eq!((detail(3), detail(4)), (json!("failed"), json!("a_tool")));
    assert!(detail(5).as_str().unwrap().len() < 150);
}
