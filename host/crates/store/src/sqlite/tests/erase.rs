//! Tests of erasure: the selected call is removed completely, and other calls are kept.

use super::*;
use plugboard_core::platforms::DSAI;
use plugboard_core::platforms::Platform;

fn selector(id: &str) -> CallSelector {
    CallSelector::new(id, None).unwrap()
}

/// Returns an event of a call whose metadata contains a text.
fn new_event_with_text(nth: u8, id: &str, platform: Platform, text: &str) -> NewEvent {
    let record = new_event(nth);
    let metadata = format!(r#"{{"note":"{text}","other":"a\"b"}}"#);
    let call =
        plugboard_core::call::Call { id: id.into(), platform, ..call("2000", "5001", &metadata) };
    let event = Event { call: Arc::new(call), ..Event::clone(&record.event) };
    NewEvent {
        call: serde_json::to_string(&*event.call).unwrap().into(),
        event: Arc::new(event),
        ..record
    }
}

async fn append_with_contexts(fixture: &TestStore, events: Vec<NewEvent>) {
    let ids: HashSet<CallId> =
        events.iter().map(|new_event| new_event.event.call.call_id()).collect();
    fixture
        .store
        .append(AppendBatch { events, call: None }, AppendMode::Acknowledged)
        .await
        .unwrap();
    for id in ids {
        let document = "{}".into();
        let call = Some(CallDocument { id, document, expires_at: unix_now() + 60_000 });
        fixture
            .store
            .append(AppendBatch { events: Vec::new(), call }, AppendMode::Deferred)
            .await
            .unwrap();
    }
}

async fn add_dead_letter(fixture: &TestStore, seq: Seq) {
    let event = Arc::clone(&fixture.store.find_events(vec![seq]).await.unwrap()[0]);
    fixture.store.add_dead_letter(dead_letter("o", &event), event).await.unwrap();
}

async fn dead_letter_calls(fixture: &TestStore) -> Vec<String> {
    let all = DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() };
    let letters = fixture.store.dead_letters(all).await.unwrap().letters;
    letters.into_iter().map(|letter| letter.call).collect()
}

fn erased_counts(erased: &ErasureResult) -> (u64, u64, u64) {
    (erased.events, erased.dead_letters, erased.calls)
}

#[tokio::test]
async fn erase_removes_only_the_selected_call() {
    let fixture = open();
    // The text of the second event is the id of the other call.
    let events = vec![
        new_event_with_text(1, "a\"b", AVR, "x"),
        new_event_with_text(2, "b", AVR, "a"),
        new_event_with_text(3, "a\"b", AVR, "x"),
        new_event_with_text(4, "a", AVR, "x"),
    ];
    append_with_contexts(&fixture, events).await;
    for seq in [1, 2] {
        add_dead_letter(&fixture, seq).await;
    }
    let before = fixture.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes;
    let erased = fixture.store.erase(selector("a\"b")).await.unwrap();
    assert_eq!(erased_counts(&erased), (2, 1, 1));
    // The end of the journal has no erased event, and a page covers the gap, whether it is read
    // from memory or from the file.
    let tail = fixture.store.read(0, 10).await.unwrap();
    assert_eq!((seqs(&tail), tail.up_to), (vec![2, 4], 4));
    assert_eq!(erased_counts(&fixture.store.erase(selector("a")).await.unwrap()), (1, 0, 1));
    let tail = fixture.store.read(2, 10).await.unwrap();
    assert_eq!((seqs(&tail), tail.up_to), (vec![], 4));
    assert_eq!(seqs(&fixture.store.read(0, 1).await.unwrap()), [2]);
    assert_eq!(dead_letter_calls(&fixture).await, ["b"]);
    assert!(fixture.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes < before);
    assert!(fixture.store.load_call(CallId::new(AVR, "a")).await.unwrap().is_none());
    assert!(fixture.store.load_call(CallId::new(AVR, "b")).await.unwrap().is_some());
    let fixture = fixture.reopen().await;
    fixture.store.consumers().await.unwrap();
    let page = fixture.store.read(0, 10).await.unwrap();
    assert_eq!((seqs(&page), page.up_to), (vec![2], 2));
    // A later event of an erased call is new.
    append_with_contexts(&fixture, vec![new_event_with_text(5, "a", AVR, "x")]).await;
    assert_eq!(seqs(&fixture.store.read(2, 10).await.unwrap()).len(), 1);
    assert_eq!(erased_counts(&fixture.store.erase(selector("a")).await.unwrap()), (1, 0, 1));
    assert_eq!(erased_counts(&fixture.store.erase(selector("b")).await.unwrap()), (1, 1, 1));
    assert_eq!(
        fixture.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes,
        0,
        "the size is not zero"
    );
    assert_eq!(erased_counts(&fixture.store.erase(selector("b")).await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn erase_with_platform_keeps_other_platforms() {
    let fixture = open();
    let platforms = [AVR, DSAI, BLACKBOX];
    let events =
        (1..).zip(platforms).map(|(nth, platform)| new_event_with_text(nth, "a", platform, "x"));
    append_with_contexts(&fixture, events.collect()).await;
    for seq in 1..=3 {
        add_dead_letter(&fixture, seq).await;
    }
    let platform_selector = CallSelector::new("a", Some("dsai")).unwrap();
    assert_eq!(erased_counts(&fixture.store.erase(platform_selector).await.unwrap()), (2, 2, 1));
    assert_eq!(seqs(&fixture.store.read(0, 10).await.unwrap()), [3]);
    assert!(fixture.store.load_call(CallId::new(BLACKBOX, "a")).await.unwrap().is_some());
    assert_eq!(erased_counts(&fixture.store.erase(selector("a")).await.unwrap()), (1, 1, 1));
}

#[tokio::test]
async fn erase_covers_earlier_appends_that_are_still_pending() {
    let fixture = open();
    let append = |nth| {
        let events = vec![new_event_with_text(nth, "a", AVR, "x")];
        fixture.store.append(AppendBatch { events, call: None }, AppendMode::Acknowledged)
    };
    let (before, erased, after) = (append(1), fixture.store.erase(selector("a")), append(2));
    let erased = erased.await.unwrap();
    assert_eq!((erased.events, erased.range.up_to), (1, 1));
    assert_eq!((before.await.unwrap(), after.await.unwrap()), (1, 1));
    assert_eq!(seqs(&fixture.store.read(0, 10).await.unwrap()), [2]);
}

#[tokio::test]
async fn erase_covers_concurrently_redriven_dead_letters() {
    let fixture = open();
    append_with_contexts(&fixture, vec![new_event_with_text(1, "a", AVR, "x")]).await;
    fixture.store.save_checkpoint("o".into(), Checkpoint::default()).await.unwrap();
    add_dead_letter(&fixture, 1).await;
    // The requests run in this order, so the dead letter is an event again before the erasure
    // searches it.
    let erased = fixture.store.erase(selector("a"));
    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let redriven = fixture.store.redrive_dead_letters(all);
    let erased = erased.await.unwrap();
    assert_eq!((redriven.await.unwrap(), erased.events, erased.dead_letters), (1, 2, 0));
    assert!(seqs(&fixture.store.read(0, 10).await.unwrap()).is_empty());
    assert!(dead_letter_calls(&fixture).await.is_empty());
}

#[tokio::test]
async fn erase_in_slices_does_not_block_writers() {
    let fixture = open();
    for nth in 0..12 {
        let events = (0..500u32).map(|n| {
            let number = nth * 500 + n;
            let id = if number.is_multiple_of(10) { "other" } else { "a" };
            let mut identity = [0; 16];
            identity.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
            NewEvent { event_id: EventId(identity), ..new_event_with_text(1, id, AVR, "x") }
        });
        append_with_contexts(&fixture, events.collect()).await;
    }
    let mut erasure = fixture.store.erase(selector("a"));
    let mut appended = 0;
    let erased = loop {
        tokio::select! {
            erased = &mut erasure => break erased.unwrap(),
            new_events = fixture.store.append(batch(&[appended + 1]), AppendMode::Acknowledged) => {
                appended += u8::try_from(new_events.unwrap()).unwrap();
            }
        }
    };
    assert_eq!(erased.events, 5_400);
    assert!(appended > 3, "{appended}");
    let mut left = 0;
    let mut after = 0;
    loop {
        let page = fixture.store.read(after, 1_000).await.unwrap();
        left += page.events.iter().filter(|event| &*event.event.call.id == "other").count();
        assert!(page.events.iter().all(|event| &*event.event.call.id != "a"));
        if page.up_to == after {
            break;
        }
        after = page.up_to;
    }
    assert_eq!(left, 600);
}

#[tokio::test]
async fn erase_values_matches_key_segments_and_updates_quota() {
    let fixture = open();
    let long = "x".repeat(300);
    for key in ["a", "a/1", "call/a", "call/a/1", "ab", "call/ab/1", "A", "call", "x/a-/1"] {
        kv(&fixture, key, set_command(20, None)).await.unwrap();
    }
    fixture.store.kv("another".into(), "b/a".to_owned(), set_command(10, None)).await.unwrap();
    assert!(matches!(kv(&fixture, &long, set_command(300, None)).await, Err(KvError::Quota(_))));
    assert_eq!(fixture.store.erase_values("a".into()).await.unwrap(), 5);
    // The quota is the same, whether it was counted before or is counted again.
    kv(&fixture, &long, set_command(150, None)).await.unwrap();
    assert!(matches!(kv(&fixture, "y", set_command(100, None)).await, Err(KvError::Quota(_))));
    for (key, exists) in [("a", false), ("call/a/1", false), ("ab", true), ("call/ab/1", true)] {
        let found = kv(&fixture, key, KvCommand::Get).await.unwrap();
        assert_eq!(found != KvAnswer::Value(None), exists, "{key}");
    }
    let fixture = fixture.reopen().await;
    assert!(matches!(kv(&fixture, "y", set_command(100, None)).await, Err(KvError::Quota(_))));
    assert_eq!(fixture.store.erase_values("call/ab".into()).await.unwrap(), 1);
    assert_eq!(fixture.store.erase_values("a".into()).await.unwrap(), 0);
}

/// Returns whether a file of the folder contains a text. Another process searches the files,
/// because closing a file that SQLite has open would release its locks.
fn is_readable(folder: &Path, text: &str) -> bool {
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rqaF", "--", text]).arg(folder).status().unwrap().success()
}

#[tokio::test]
async fn erased_and_replaced_data_is_unreadable_in_files() {
    let fixture = open();
    for nth in 0..20 {
        append_with_contexts(&fixture, vec![new_event_with_text(nth, "a", AVR, "Marker-one")])
            .await;
        append_with_contexts(
            &fixture,
            vec![new_event_with_text(100 + nth, "b", AVR, "Marker-two")],
        )
        .await;
    }
    add_dead_letter(&fixture, 1).await;
    let value = b"Marker-three".repeat(30);
    kv(&fixture, "x/a/y", KvCommand::Set { value, ttl: None }).await.unwrap();
    // An overwritten value must not be readable in the files either.
    kv(&fixture, "x/a/y", set_command(500, None)).await.unwrap();
    for marker in ["Marker-one", "Marker-two", "Marker-three"] {
        assert!(is_readable(fixture.folder.path(), marker), "{marker}");
    }
    fixture.store.erase(selector("a")).await.unwrap();
    fixture.store.erase_values("a".into()).await.unwrap();
    fixture.store.truncate_wal().await.unwrap();
    for (marker, exists) in [("Marker-one", false), ("Marker-two", true), ("Marker-three", false)] {
        assert_eq!(is_readable(fixture.folder.path(), marker), exists, "{marker}");
    }
}

#[tokio::test]
async fn wal_truncation_waits_for_readers() {
    let fixture = open();
    append_with_contexts(&fixture, vec![new_event_with_text(1, "a", AVR, "Marker")]).await;
    let other =
        rusqlite::Connection::open(SqliteStore::database_path(fixture.folder.path())).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM events").unwrap();
    fixture.store.erase(selector("a")).await.unwrap();
    let truncation = fixture.store.truncate_wal();
    let ended = tokio::time::timeout(Duration::from_millis(300), truncation).await;
    assert!(ended.is_err(), "the log was emptied while a reader used it");
    assert!(is_readable(fixture.folder.path(), "Marker"));
    // Other requests do not wait for the truncation.
    append_with_contexts(&fixture, vec![new_event_with_text(2, "b", AVR, "x")]).await;
    let truncation = fixture.store.truncate_wal();
    other.execute_batch("COMMIT").unwrap();
    truncation.await.unwrap();
    assert!(!is_readable(fixture.folder.path(), "Marker"));
}
