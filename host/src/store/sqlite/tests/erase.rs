//! What is erased is gone, and nothing else is.

use super::*;
use crate::event::Platform;
use crate::platform::{AVR, BLACKBOX, DSAI};

fn name(id: &str) -> CallName {
    CallName::new(id, None).unwrap()
}

/// An event of a call, in which a text stands.
fn said(nth: u8, id: &str, platform: Platform, text: &str) -> Record {
    let record = record(nth);
    let metadata = format!(r#"{{"note":"{text}","other":"a\"b"}}"#);
    let call =
        crate::event::Call { id: id.to_owned(), platform, ..call("2000", "5001", &metadata) };
    let event = Event { call: Arc::new(call), ..Event::clone(&record.event) };
    Record {
        call: serde_json::to_string(&*event.call).unwrap().into(),
        event: Arc::new(event),
        ..record
    }
}

async fn append(it: &Opened, events: Vec<Record>) {
    let keys: HashSet<String> = events
        .iter()
        .map(|it| format!("{}/{}", it.event.call.platform.family, it.event.call.id))
        .collect();
    it.store.append(Writes { events, call: None }, Debt::None).await.unwrap();
    for key in keys {
        let (key, document) = (key.into(), "{}".into());
        let call = Some(CallDocument { key, document, until: now() + 60_000 });
        it.store.append(Writes { events: Vec::new(), call }, Debt::Owed).await.unwrap();
    }
}

async fn bury(it: &Opened, seq: Seq) {
    let event = Arc::clone(&it.store.find(vec![seq]).await.unwrap()[0]);
    it.store.bury(letter("o", &event), event).await.unwrap();
}

async fn dead(it: &Opened) -> Vec<String> {
    let all = Selection { most: 100, ..Selection::default() };
    let letters = it.store.dead(all).await.unwrap().letters;
    letters.into_iter().map(|letter| letter.call).collect()
}

fn numbers(erased: &Erased) -> (u64, u64, u64) {
    (erased.events, erased.dead, erased.calls)
}

#[tokio::test]
async fn a_call_is_erased_and_no_other() {
    let it = open();
    // One whose text has the name of the other.
    let events = vec![
        said(1, "a\"b", AVR, "x"),
        said(2, "b", AVR, "a"),
        said(3, "a\"b", AVR, "x"),
        said(4, "a", AVR, "x"),
    ];
    append(&it, events).await;
    for seq in [1, 2] {
        bury(&it, seq).await;
    }
    let before = it.store.tidy(upkeep(0, 0)).await.unwrap().bytes;
    let erased = it.store.erase(name("a\"b")).await.unwrap();
    assert_eq!(numbers(&erased), (2, 1, 1));
    // At the end of the journal nothing is left that was erased, and nobody who reads
    // on stays before it; from memory as from the file.
    let tail = it.store.read(0, 10).await.unwrap();
    assert_eq!((places(&tail), tail.reaches), (vec![2, 4], 4));
    assert_eq!(numbers(&it.store.erase(name("a")).await.unwrap()), (1, 0, 1));
    let tail = it.store.read(2, 10).await.unwrap();
    assert_eq!((places(&tail), tail.reaches), (vec![], 4));
    assert_eq!(places(&it.store.read(0, 1).await.unwrap()), [2]);
    assert_eq!(dead(&it).await, ["b"]);
    assert!(it.store.tidy(upkeep(0, 0)).await.unwrap().bytes < before);
    assert!(it.store.recall("avr/a".to_owned()).await.unwrap().is_none());
    assert!(it.store.recall("avr/b".to_owned()).await.unwrap().is_some());
    let it = it.reopened().await;
    it.store.observers().await.unwrap();
    let page = it.store.read(0, 10).await.unwrap();
    assert_eq!((places(&page), page.reaches), (vec![2], 2));
    // What comes later is new.
    append(&it, vec![said(5, "a", AVR, "x")]).await;
    assert_eq!(places(&it.store.read(2, 10).await.unwrap()).len(), 1);
    assert_eq!(numbers(&it.store.erase(name("a")).await.unwrap()), (1, 0, 1));
    assert_eq!(numbers(&it.store.erase(name("b")).await.unwrap()), (1, 1, 1));
    assert_eq!(it.store.tidy(upkeep(0, 0)).await.unwrap().bytes, 0, "counted wrong");
    assert_eq!(numbers(&it.store.erase(name("b")).await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn a_platform_that_is_named_is_the_only_one() {
    let it = open();
    let platforms = [AVR, DSAI, BLACKBOX];
    let events = (1..).zip(platforms).map(|(nth, platform)| said(nth, "a", platform, "x"));
    append(&it, events.collect()).await;
    for seq in 1..=3 {
        bury(&it, seq).await;
    }
    let named = CallName::new("a", Some("dsai")).unwrap();
    assert_eq!(numbers(&it.store.erase(named).await.unwrap()), (2, 2, 1));
    assert_eq!(places(&it.store.read(0, 10).await.unwrap()), [3]);
    assert!(it.store.recall("blackbox/a".to_owned()).await.unwrap().is_some());
    assert_eq!(numbers(&it.store.erase(name("a")).await.unwrap()), (1, 1, 1));
}

#[tokio::test]
async fn what_was_asked_before_is_erased_though_nobody_waited_for_it() {
    let it = open();
    let append = |nth| {
        let events = vec![said(nth, "a", AVR, "x")];
        it.store.append(Writes { events, call: None }, Debt::None)
    };
    let (before, erased, after) = (append(1), it.store.erase(name("a")), append(2));
    let erased = erased.await.unwrap();
    assert_eq!((erased.events, erased.reach.up_to), (1, 1));
    assert_eq!((before.await.unwrap(), after.await.unwrap()), (1, 1));
    assert_eq!(places(&it.store.read(0, 10).await.unwrap()), [2]);
}

#[tokio::test]
async fn a_dead_letter_that_is_tried_once_more_meanwhile_is_erased() {
    let it = open();
    append(&it, vec![said(1, "a", AVR, "x")]).await;
    it.store.save("o".into(), Progress::default()).await.unwrap();
    bury(&it, 1).await;
    // In the order in which they are asked, the dead letter is an event again before
    // it is looked for.
    let erased = it.store.erase(name("a"));
    let all = Selection { most: 10, ..Selection::default() };
    let revived = it.store.revive(all);
    let erased = erased.await.unwrap();
    assert_eq!((revived.await.unwrap(), erased.events, erased.dead), (1, 2, 0));
    assert!(places(&it.store.read(0, 10).await.unwrap()).is_empty());
    assert!(dead(&it).await.is_empty());
}

#[tokio::test]
async fn more_than_one_slice_is_erased_while_others_write() {
    let it = open();
    for nth in 0..12 {
        let events = (0..500u32).map(|n| {
            let number = nth * 500 + n;
            let id = if number.is_multiple_of(10) { "other" } else { "a" };
            let mut identity = [0; 16];
            identity.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
            Record { identity: Identity(identity), ..said(1, id, AVR, "x") }
        });
        append(&it, events.collect()).await;
    }
    let mut erasing = it.store.erase(name("a"));
    let mut taken = 0;
    let erased = loop {
        tokio::select! {
            erased = &mut erasing => break erased.unwrap(),
            taken_now = it.store.append(writes(&[taken + 1]), Debt::None) => {
                taken += u8::try_from(taken_now.unwrap()).unwrap();
            }
        }
    };
    assert_eq!(erased.events, 5_400);
    assert!(taken > 3, "{taken}");
    let mut left = 0;
    let mut after = 0;
    loop {
        let page = it.store.read(after, 1_000).await.unwrap();
        left += page.events.iter().filter(|event| event.event.call.id == "other").count();
        assert!(page.events.iter().all(|event| event.event.call.id != "a"));
        if page.reaches == after {
            break;
        }
        after = page.reaches;
    }
    assert_eq!(left, 600);
}

#[tokio::test]
async fn values_are_erased_by_a_part_of_their_key_and_counted_right() {
    let it = open();
    let long = "x".repeat(300);
    for key in ["a", "a/1", "call/a", "call/a/1", "ab", "call/ab/1", "A", "call", "x/a-/1"] {
        kv(&it, key, set(20, None)).await.unwrap();
    }
    it.store.kv("another".into(), "b/a".to_owned(), set(10, None)).await.unwrap();
    assert!(matches!(kv(&it, &long, set(300, None)).await, Err(KvError::Quota(_))));
    assert_eq!(it.store.erase_values("a".into()).await.unwrap(), 5);
    // The same whether it was counted before or is counted anew.
    kv(&it, &long, set(150, None)).await.unwrap();
    assert!(matches!(kv(&it, "y", set(100, None)).await, Err(KvError::Quota(_))));
    for (key, there) in [("a", false), ("call/a/1", false), ("ab", true), ("call/ab/1", true)] {
        let found = kv(&it, key, KvCommand::Get).await.unwrap();
        assert_eq!(found != KvAnswer::Value(None), there, "{key}");
    }
    let it = it.reopened().await;
    assert!(matches!(kv(&it, "y", set(100, None)).await, Err(KvError::Quota(_))));
    assert_eq!(it.store.erase_values("call/ab".into()).await.unwrap(), 1);
    assert_eq!(it.store.erase_values("a".into()).await.unwrap(), 0);
}

/// Whether a text stands in a file of the folder. Asked of another process: to close a
/// file that SQLite has open would end its locks.
fn is_readable(folder: &Path, text: &str) -> bool {
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rqaF", "--", text]).arg(folder).status().unwrap().success()
}

#[tokio::test]
async fn what_is_erased_or_replaced_cannot_be_read_from_the_files() {
    let it = open();
    for nth in 0..20 {
        append(&it, vec![said(nth, "a", AVR, "Marker-one")]).await;
        append(&it, vec![said(100 + nth, "b", AVR, "Marker-two")]).await;
    }
    bury(&it, 1).await;
    let value = b"Marker-three".repeat(30);
    kv(&it, "x/a/y", KvCommand::Set { value, ttl: None }).await.unwrap();
    // An older value is as readable as the newer one, unless it is overwritten.
    kv(&it, "x/a/y", set(500, None)).await.unwrap();
    for marker in ["Marker-one", "Marker-two", "Marker-three"] {
        assert!(is_readable(it.folder.path(), marker), "{marker}");
    }
    it.store.erase(name("a")).await.unwrap();
    it.store.erase_values("a".into()).await.unwrap();
    it.store.scrub().await.unwrap();
    for (marker, there) in [("Marker-one", false), ("Marker-two", true), ("Marker-three", false)] {
        assert_eq!(is_readable(it.folder.path(), marker), there, "{marker}");
    }
}

#[tokio::test]
async fn a_log_that_somebody_reads_is_emptied_when_they_are_done() {
    let it = open();
    append(&it, vec![said(1, "a", AVR, "Marker")]).await;
    let other = rusqlite::Connection::open(Sqlite::file(it.folder.path())).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM events").unwrap();
    it.store.erase(name("a")).await.unwrap();
    let scrubbed = it.store.scrub();
    let ended = tokio::time::timeout(Duration::from_millis(300), scrubbed).await;
    assert!(ended.is_err(), "it cannot be empty");
    assert!(is_readable(it.folder.path(), "Marker"));
    // Others are not held up.
    append(&it, vec![said(2, "b", AVR, "x")]).await;
    let scrubbed = it.store.scrub();
    other.execute_batch("COMMIT").unwrap();
    scrubbed.await.unwrap();
    assert!(!is_readable(it.folder.path(), "Marker"));
}
