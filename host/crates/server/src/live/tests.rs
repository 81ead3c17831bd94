//! Tests of the live feed: its bounds, expiry, subscribers and erasures.

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::calls::LiveCalls;
use super::message::FeedItem;
use super::*;
use plugboard_core::event::{CallEnding, CallOutcome, EventBody};
use plugboard_core::platforms;
use plugboard_core::testing::call;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Timeout of fast operations, which may be slow on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Starts a live feed that runs until the test ends.
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

/// Returns the ids of the calls, in order.
fn ids(calls: &LiveCallsSnapshot) -> Vec<String> {
    let document = document(calls);
    let calls = document["calls"].as_array().unwrap().iter();
    calls.map(|call| call["call"].as_str().unwrap().to_owned()).collect()
}

/// Returns the type and the document of the next message.
async fn next(subscriber: &mut LiveSubscriber) -> (&'static str, Value) {
    let item = timeout(TIMEOUT, subscriber.next()).await.unwrap().unwrap();
    let LiveMessage { kind, data } = item.message(Masking::Masked);
    (kind, serde_json::from_str(&data).unwrap())
}

/// Returns the messages up to the end of the history.
async fn read_history(subscriber: &mut LiveSubscriber) -> Vec<(&'static str, Value)> {
    let mut history = Vec::new();
    loop {
        match next(subscriber).await {
            ("caught_up", _) => return history,
            message => history.push(message),
        }
    }
}

#[tokio::test]
async fn subscriber_receives_history_then_new_activities() {
    let live = start_live(DAY);
    live.record(&call_with_id("a"), decision_activity("plugin"));
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
    let mut subscriber = live.subscribe().await.unwrap();
    let before = read_history(&mut subscriber).await;
    let kinds: Vec<_> = before.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["decision", "event", "mid_call_request"]);
    let mut decision = before[0].1.clone();
    assert!(decision["at"].take().as_str().unwrap().parse::<Timestamp>().is_ok());
    let expected = json!({
        "at": null, "call": "a", "platform": "avr", "agent": null, "from": "•••• 99",
        "to": "•••• 01", "plugin": "10-a", "outcome": "route", "source": "plugin", "failures": 0,
        "took_us": 120,
    });
    assert_eq!(decision, expected);
    let mut tool_request = before[2].1.clone();
    tool_request["at"].take();
    let expected = json!({
        "at": null, "call": "a", "platform": "avr", "kind": "tool", "name": "order_state",
        "plugin": "20-b", "outcome": "answered", "took_us": 1_000_000,
    });
    assert_eq!(tool_request, expected);
    live.record(&call_with_id("b"), decision_activity("cache"));
    let (kind, decision) = next(&mut subscriber).await;
    assert_eq!((kind, &decision["call"]), ("decision", &json!("b")));
    assert_eq!(decision["source"], "cache");
}

#[tokio::test]
async fn history_calls_and_timelines_are_bounded() {
    let live = start_live(DAY);
    // Each round fills the queue of activities.
    for round in 0..4 {
        for nth in 0..ACTIVITY_QUEUE_CAPACITY / 2 {
            let call = call_with_id(&format!("{round}-{nth}"));
            live.record(&call, decision_activity("plugin"));
            live.record(&call, event_activity("started"));
        }
        // The request drains the queue.
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
    let history = read_history(&mut live.subscribe().await.unwrap()).await;
    let count = |wanted| history.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!((count("decision"), count("event"), history.len()), (200, 500, 700));
}

#[tokio::test]
async fn full_queue_drops_and_counts_activities() {
    let live = start_live(DAY);
    // The task does not run before this test awaits.
    for _ in 0..ACTIVITY_QUEUE_CAPACITY + 10 {
        live.record(&call_with_id("a"), event_activity("interruption"));
    }
    assert_eq!(document(&live.calls().await)["dropped"], 10);
    live.record(&call_with_id("b"), decision_activity("plugin"));
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
}

#[tokio::test]
async fn erased_call_is_removed_everywhere() {
    let live = start_live(DAY);
    let mut subscriber = live.subscribe().await.unwrap();
    let (a, b) = (call_with_id("a"), call_with_id("b"));
    let memory = Arc::downgrade(&a);
    for call in [&a, &b] {
        live.record(call, decision_activity("plugin"));
        live.record(call, event_activity("started"));
    }
    // The call is in the table, in the history and in the subscriber's queue, and one activity
    // is queued.
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
    live.record(&a, event_activity("interruption"));
    drop(a);
    live.erase(&call_selector("a")).await;
    assert!(memory.upgrade().is_none());
    assert_eq!(ids(&live.calls().await), ["b"]);
    let later = read_history(&mut live.subscribe().await.unwrap()).await;
    let erased_call_messages = later.iter().filter(|(_, it)| it["call"] == "a");
    // A subscriber that reconnects still shows the call, and receives the erasure.
    assert_eq!(erased_call_messages.map(|(kind, _)| *kind).collect::<Vec<_>>(), ["erased"]);
    assert_eq!(next(&mut subscriber).await.0, "caught_up");
    for kind in ["decision", "event"] {
        let (received_kind, document) = next(&mut subscriber).await;
        assert_eq!((received_kind, &document["call"]), (kind, &json!("b")));
    }
    let platforms: Vec<&str> = platforms::all().iter().map(|platform| platform.name).collect();
    assert_eq!(platforms[..3], ["avr", "dsai", "blackbox"]);
    let erased = json!({"call": "a", "platforms": platforms});
    assert_eq!(next(&mut subscriber).await, ("erased", erased));
    // The call with the same id at another platform is another call.
    live.erase(&CallSelector::new("b", Some("blackbox")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), ["b"]);
    live.erase(&CallSelector::new("b", Some("dsai")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), [""; 0]);
}

#[tokio::test]
async fn slow_subscriber_receives_missed_count() {
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
    // The subscriber misses no later message.
    live.record(&call, decision_activity("plugin"));
    assert_eq!(next(&mut slow).await.0, "decision");
}

#[tokio::test]
async fn slow_subscriber_receives_erasures_of_missed_messages() {
    let live = start_live(DAY);
    let mut subscriber = live.subscribe().await.unwrap();
    live.record(&call_with_id("a"), decision_activity("plugin"));
    live.erase(&call_selector("a")).await;
    let fill = async || {
        for _ in 0..1_024 {
            live.record(&call_with_id("b"), event_activity("interruption"));
        }
        live.calls().await;
    };
    fill().await;
    assert_eq!(next(&mut subscriber).await.0, "caught_up");
    assert_eq!(next(&mut subscriber).await, ("missed", json!({"count": 2})));
    let (kind, erased) = next(&mut subscriber).await;
    assert_eq!((kind, &erased["call"]), ("erased", &json!("a")));
    for _ in 0..1_024 {
        assert_eq!(next(&mut subscriber).await.0, "event");
    }
    // An erasure that was received is not sent again after a later gap.
    live.erase(&call_selector("c")).await;
    assert_eq!(next(&mut subscriber).await.0, "erased");
    fill().await;
    live.record(&call_with_id("b"), event_activity("interruption"));
    live.calls().await;
    assert_eq!(next(&mut subscriber).await, ("missed", json!({"count": 1})));
    assert_eq!(next(&mut subscriber).await.0, "event");
}

#[tokio::test]
async fn subscribers_are_limited_and_dropped_ones_free_slots() {
    let (live, task) = Live::new(DAY);
    let stop = CancellationToken::new();
    tokio::spawn(task.run(stop.clone()));
    let mut subscribers = Vec::new();
    for _ in 0..MAX_SUBSCRIBERS {
        subscribers.push(live.subscribe().await.unwrap());
    }
    assert_eq!(live.subscribe().await.err(), Some(SubscribeError::TooMany));
    subscribers.pop();
    subscribers.push(live.subscribe().await.unwrap());
    stop.cancel();
    subscribers.pop();
    assert_eq!(live.subscribe().await.err(), Some(SubscribeError::Stopping));
    for mut subscriber in subscribers {
        assert!(timeout(TIMEOUT, subscriber.next()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn old_activities_expire_without_new_ones() {
    let live = start_live(Duration::from_millis(20));
    let call = call_with_id("a");
    let memory = Arc::downgrade(&call);
    live.record(&call, decision_activity("plugin"));
    drop(call);
    let released = async {
        while memory.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(TIMEOUT, released).await.unwrap();
}

#[test]
fn ended_calls_come_last_and_expire() {
    let (mut calls, start) = (LiveCalls::new(DAY), Instant::now());
    let record = |calls: &mut LiveCalls, id: &str, kind, seconds: u32| {
        calls.record(Activity::new(&call_with_id(id), kind), start + seconds * SECOND);
    };
    for (at, id) in (0..).zip(["a", "b", "c"]) {
        record(&mut calls, id, decision_activity("plugin"), at);
    }
    record(&mut calls, "c", event_activity("ended"), 10);
    record(&mut calls, "a", event_activity("ended"), 20);
    // Late activities do not change an ended call.
    record(&mut calls, "c", event_activity("error"), 30);
    record(&mut calls, "c", decision_activity("replayed"), 30);
    let now = calls.snapshot(0);
    assert_eq!(ids(&now), ["b", "a", "c"]);
    let shown = document(&now);
    assert_eq!(shown["calls"][0]["ended"], Value::Null);
    assert!(shown["calls"][2]["ended"].is_string());
    let timeline = shown["calls"][2]["timeline"].as_array().unwrap();
    let kinds: Vec<_> = timeline.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["decision", "event", "event", "decision"]);
    assert_eq!(calls.next_expiry(), Some(start + 310 * SECOND));
    calls.remove_expired(start + 309 * SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["b", "a", "c"]);
    calls.remove_expired(start + 310 * SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["b", "a"]);
    // Another call with the same id begins a new timeline.
    record(&mut calls, "a", decision_activity("plugin"), 311);
    let shown = document(&calls.snapshot(0));
    assert_eq!(
        (&shown["calls"][0]["call"], &shown["calls"][0]["ended"]),
        (&json!("a"), &json!(null))
    );
    assert_eq!(shown["calls"][0]["timeline"].as_array().unwrap().len(), 1);
    // A call without an end expires.
    calls.remove_expired(start + DAY + SECOND);
    assert_eq!(ids(&calls.snapshot(0)), ["a"]);
}

#[test]
fn full_table_evicts_ended_calls_then_most_silent() {
    let (mut calls, start) = (LiveCalls::new(DAY), Instant::now());
    let mut seconds = 0;
    let mut record = |calls: &mut LiveCalls, id: &str, kind| {
        seconds += 1;
        calls.record(Activity::new(&call_with_id(id), kind), start + seconds * SECOND);
    };
    for nth in 0..200 {
        record(&mut calls, &nth.to_string(), decision_activity("plugin"));
    }
    record(&mut calls, "0", event_activity("interruption"));
    record(&mut calls, "100", event_activity("ended"));
    record(&mut calls, "200", decision_activity("plugin"));
    let is_listed = |calls: &LiveCalls, id: &str| ids(&calls.snapshot(0)).iter().any(|it| it == id);
    assert!(!is_listed(&calls, "100"));
    record(&mut calls, "201", decision_activity("plugin"));
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
            let kind = ActivityKind::from(EventSummary::new(&event(body)));
            let activity = Arc::new(Activity::new(&call_with_id("a"), kind));
            FeedItem::Activity(activity).message(Masking::Unmasked).data
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
