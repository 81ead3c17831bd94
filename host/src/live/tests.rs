//! What is kept, for how long, and how much of it; who is told, and who is not.

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::calls::Calls;
use super::message::Item;
use super::*;
use crate::event::tests::call;
use crate::event::{CallOutcome, Ending, EventBody};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// For what should come at once but may be slow on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn named(id: &str) -> Arc<Call> {
    let mut call = call("+14155550199", "5001", "{}");
    call.id = id.to_owned();
    Arc::new(call)
}

fn decided(source: &'static str) -> What {
    What::Decision(Decision {
        plugin: Some("10-a".into()),
        outcome: "route",
        source,
        failures: 0,
        prompt: false,
        refused: false,
        took: Duration::from_micros(120),
    })
}

fn happened(kind: &'static str) -> What {
    What::Event(Happening { kind, detail: None, ends: kind == "ended" })
}

fn name(id: &str) -> CallName {
    CallName::new(id, None).unwrap()
}

fn document(calls: &CallsNow) -> Value {
    serde_json::to_value(calls.document(Numbers::Masked)).unwrap()
}

/// The calls that are known, in order.
fn ids(calls: &CallsNow) -> Vec<String> {
    let document = document(calls);
    let calls = document["calls"].as_array().unwrap().iter();
    calls.map(|call| call["call"].as_str().unwrap().to_owned()).collect()
}

/// The next message: its type, and its document.
async fn next(reader: &mut Reader) -> (&'static str, Value) {
    let item = timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
    let Message { kind, data } = item.message(Numbers::Masked);
    (kind, serde_json::from_str(&data).unwrap())
}

/// What waits for a reader until it has caught up.
async fn past(reader: &mut Reader) -> Vec<(&'static str, Value)> {
    let mut past = Vec::new();
    loop {
        match next(reader).await {
            ("caught_up", _) => return past,
            message => past.push(message),
        }
    }
}

#[tokio::test]
async fn what_was_before_comes_first_and_then_what_happens() {
    let live = Live::start(DAY);
    live.tell(&named("a"), decided("ran"));
    live.tell(&named("a"), happened("started"));
    live.tell(
        &named("a"),
        What::Use(Use::tool("order_state", Some("20-b".into()), "answered", SECOND)),
    );
    let mut reader = live.read().await.unwrap();
    let before = past(&mut reader).await;
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
    live.tell(&named("b"), decided("cached"));
    let (kind, decision) = next(&mut reader).await;
    assert_eq!((kind, &decision["call"]), ("decision", &json!("b")));
    assert_eq!(decision["source"], "cached");
}

#[tokio::test]
async fn everything_has_a_bound() {
    let live = Live::start(DAY);
    // As many as may be on their way at a time.
    for round in 0..4 {
        for nth in 0..NOTES / 2 {
            let call = named(&format!("{round}-{nth}"));
            live.tell(&call, decided("ran"));
            live.tell(&call, happened("started"));
        }
        // Which takes them off it.
        live.calls().await;
    }
    let one = named("one");
    for _ in 0..100 {
        live.tell(&one, happened("interruption"));
    }
    let calls = live.calls().await;
    let known = ids(&calls);
    assert_eq!((known.len(), &*known[0], &*known[1]), (200, "one", "3-2047"));
    let document = document(&calls);
    assert_eq!(document["dropped"], 0);
    let call = &document["calls"][0];
    assert_eq!((call["timeline"].as_array().unwrap().len(), &call["left_out"]), (64, &json!(36)));
    let past = past(&mut live.read().await.unwrap()).await;
    let count = |wanted| past.iter().filter(|(kind, _)| *kind == wanted).count();
    assert_eq!((count("decision"), count("event"), past.len()), (200, 500, 700));
}

#[tokio::test]
async fn what_finds_no_room_is_counted_and_nobody_waits() {
    let live = Live::start(DAY);
    // The task does not run before this test waits for something.
    for _ in 0..NOTES + 10 {
        live.tell(&named("a"), happened("interruption"));
    }
    assert_eq!(document(&live.calls().await)["dropped"], 10);
    live.tell(&named("b"), decided("ran"));
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
}

#[tokio::test]
async fn an_erased_call_is_nowhere_any_more() {
    let live = Live::start(DAY);
    let mut reader = live.read().await.unwrap();
    let (a, b) = (named("a"), named("b"));
    let memory = Arc::downgrade(&a);
    for call in [&a, &b] {
        live.tell(call, decided("ran"));
        live.tell(call, happened("started"));
    }
    // In the table, in the past and before the reader; and one on its way.
    assert_eq!(ids(&live.calls().await), ["b", "a"]);
    live.tell(&a, happened("interruption"));
    drop(a);
    live.erase(&name("a")).await;
    assert!(memory.upgrade().is_none());
    assert_eq!(ids(&live.calls().await), ["b"]);
    let later = past(&mut live.read().await.unwrap()).await;
    let of_it = later.iter().filter(|(_, it)| it["call"] == "a");
    // Who was away still shows it.
    assert_eq!(of_it.map(|(kind, _)| *kind).collect::<Vec<_>>(), ["erased"]);
    assert_eq!(next(&mut reader).await.0, "caught_up");
    for kind in ["decision", "event"] {
        let (told, document) = next(&mut reader).await;
        assert_eq!((told, &document["call"]), (kind, &json!("b")));
    }
    let erased = json!({"call": "a", "platforms": ["avr", "dsai", "blackbox", "toy"]});
    assert_eq!(next(&mut reader).await, ("erased", erased));
    // Of the same name at another platform, it is another call.
    live.erase(&CallName::new("b", Some("blackbox")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), ["b"]);
    live.erase(&CallName::new("b", Some("dsai")).unwrap()).await;
    assert_eq!(ids(&live.calls().await), [""; 0]);
}

#[tokio::test]
async fn who_is_slow_is_told_what_it_missed_and_others_miss_nothing() {
    const ALL: u64 = 3_000;
    let live = Live::start(DAY);
    let (mut slow, mut quick) = (live.read().await.unwrap(), live.read().await.unwrap());
    assert!(past(&mut quick).await.is_empty());
    let call = named("a");
    for _ in 0..ALL / 100 {
        for _ in 0..100 {
            live.tell(&call, happened("interruption"));
        }
        for _ in 0..100 {
            assert_eq!(next(&mut quick).await.0, "event");
        }
    }
    assert_eq!(next(&mut slow).await.0, "caught_up");
    let mut told = 0;
    let missed = loop {
        match next(&mut slow).await {
            ("event", _) => told += 1,
            ("missed", document) => break document["count"].as_u64().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert!(missed > 0);
    assert_eq!((told, told + missed), (1_024, ALL));
    // From there on it misses nothing.
    live.tell(&call, decided("ran"));
    assert_eq!(next(&mut slow).await.0, "decision");
}

#[tokio::test]
async fn there_are_so_many_readers_and_who_is_gone_is_none() {
    let live = Live::start(DAY);
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(live.read().await.unwrap());
    }
    assert_eq!(live.read().await.err(), Some(Unreadable::TooMany));
    readers.pop();
    readers.push(live.read().await.unwrap());
    live.close();
    readers.pop();
    assert_eq!(live.read().await.err(), Some(Unreadable::Stopping));
    for mut reader in readers {
        assert!(timeout(PATIENCE, reader.next()).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn what_is_old_is_forgotten_although_nothing_happens() {
    let live = Live::start(Duration::from_millis(20));
    let call = named("a");
    let memory = Arc::downgrade(&call);
    live.tell(&call, decided("ran"));
    drop(call);
    let gone = async {
        while memory.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, gone).await.unwrap();
}

#[test]
fn calls_that_ended_come_last_and_vanish_after_a_while() {
    let (mut calls, start) = (Calls::new(DAY), Instant::now());
    let note = |calls: &mut Calls, id: &str, what, seconds: u32| {
        calls.note(Note::new(&named(id), what), start + seconds * SECOND);
    };
    for (at, id) in (0..).zip(["a", "b", "c"]) {
        note(&mut calls, id, decided("ran"), at);
    }
    note(&mut calls, "c", happened("ended"), 10);
    note(&mut calls, "a", happened("ended"), 20);
    // What comes late changes nothing.
    note(&mut calls, "c", happened("error"), 30);
    note(&mut calls, "c", decided("repeated"), 30);
    let now = calls.now(0);
    assert_eq!(ids(&now), ["b", "a", "c"]);
    let shown = document(&now);
    assert_eq!(shown["calls"][0]["ended"], Value::Null);
    assert!(shown["calls"][2]["ended"].is_string());
    let of_c = shown["calls"][2]["timeline"].as_array().unwrap();
    let kinds: Vec<_> = of_c.iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["decision", "event", "event", "decision"]);
    assert_eq!(calls.next_end(), Some(start + 310 * SECOND));
    calls.forget(start + 309 * SECOND);
    assert_eq!(ids(&calls.now(0)), ["b", "a", "c"]);
    calls.forget(start + 310 * SECOND);
    assert_eq!(ids(&calls.now(0)), ["b", "a"]);
    // Another call of the same name starts anew.
    note(&mut calls, "a", decided("ran"), 311);
    let shown = document(&calls.now(0));
    assert_eq!(
        (&shown["calls"][0]["call"], &shown["calls"][0]["ended"]),
        (&json!("a"), &json!(null))
    );
    assert_eq!(shown["calls"][0]["timeline"].as_array().unwrap().len(), 1);
    // One that never ends is not kept for ever.
    calls.forget(start + DAY + SECOND);
    assert_eq!(ids(&calls.now(0)), ["a"]);
}

#[test]
fn when_there_is_no_room_those_that_ended_go_first_and_then_the_silent() {
    let (mut calls, start) = (Calls::new(DAY), Instant::now());
    let mut seconds = 0;
    let mut note = |calls: &mut Calls, id: &str, what| {
        seconds += 1;
        calls.note(Note::new(&named(id), what), start + seconds * SECOND);
    };
    for nth in 0..200 {
        note(&mut calls, &nth.to_string(), decided("ran"));
    }
    note(&mut calls, "0", happened("interruption"));
    note(&mut calls, "100", happened("ended"));
    note(&mut calls, "200", decided("ran"));
    let known = |calls: &Calls, id: &str| ids(&calls.now(0)).iter().any(|it| it == id);
    assert!(!known(&calls, "100"));
    note(&mut calls, "201", decided("ran"));
    assert!(known(&calls, "0") && !known(&calls, "1"));
    assert_eq!(ids(&calls.now(0)).len(), 200);
}

#[test]
fn of_an_event_nothing_is_told_that_somebody_said_or_pressed() {
    let event =
        |body| Event { call: named("a"), timestamp: Timestamp::UNIX_EPOCH, body, delivery: None };
    let null = || serde_json::value::RawValue::NULL.to_owned();
    let secret = || "secret".to_owned();
    let ending = Ending {
        outcome: CallOutcome::Failed,
        reason: Some(secret()),
        duration: None,
        report: null(),
    };
    let bodies = [
        EventBody::Transcription { role: crate::event::Role::User, text: secret() },
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
    let told: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let what = What::from(Happening::of(&event(body)));
            let note = Arc::new(Note::new(&named("a"), what));
            Item::Note(note).message(Numbers::Shown).data
        })
        .collect();
    for message in &told {
        assert!(!message.contains("secret"), "{message}");
    }
    let detail = |nth: usize| serde_json::from_str::<Value>(&told[nth]).unwrap()["detail"].clone();
    assert_eq!(detail(0), "user");
    assert_eq!((detail(1), detail(2)), (Value::Null, Value::Null));
    assert_eq!((detail(3), detail(4)), (json!("failed"), json!("a_tool")));
    assert!(detail(5).as_str().unwrap().len() < 150);
}
