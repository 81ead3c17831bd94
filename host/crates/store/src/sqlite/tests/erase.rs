//! What is erased is gone, and nothing else is.

use super::*;
use plugboard_core::platforms::DSAI;
use plugboard_core::platforms::Platform;

fn selector(id: &str) -> CallSelector {
    CallSelector::new(id, None).unwrap()
}

/// An event of a call, in which a text stands.
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

async fn append_with_contexts(opened: &TestStore, events: Vec<NewEvent>) {
    let ids: HashSet<CallId> =
        events.iter().map(|new_event| new_event.event.call.call_id()).collect();
    opened
        .store
        .append(AppendBatch { events, call: None }, AppendMode::Acknowledged)
        .await
        .unwrap();
    for id in ids {
        let document = "{}".into();
        let call = Some(CallDocument { id, document, expires_at: unix_now() + 60_000 });
        opened
            .store
            .append(AppendBatch { events: Vec::new(), call }, AppendMode::Deferred)
            .await
            .unwrap();
    }
}

async fn add_dead_letter(opened: &TestStore, seq: Seq) {
    let event = Arc::clone(&opened.store.find_events(vec![seq]).await.unwrap()[0]);
    opened.store.add_dead_letter(dead_letter("o", &event), event).await.unwrap();
}

async fn dead_letter_calls(opened: &TestStore) -> Vec<String> {
    let all = DeadLetterFilter { limit: 100, ..DeadLetterFilter::default() };
    let letters = opened.store.dead_letters(all).await.unwrap().letters;
    letters.into_iter().map(|letter| letter.call).collect()
}

fn erased_counts(erased: &ErasureResult) -> (u64, u64, u64) {
    (erased.events, erased.dead_letters, erased.calls)
}

#[tokio::test]
async fn erase_removes_only_the_selected_call() {
    let opened = open();
    // One whose text has the name of the other.
    let events = vec![
        new_event_with_text(1, "a\"b", AVR, "x"),
        new_event_with_text(2, "b", AVR, "a"),
        new_event_with_text(3, "a\"b", AVR, "x"),
        new_event_with_text(4, "a", AVR, "x"),
    ];
    append_with_contexts(&opened, events).await;
    for seq in [1, 2] {
        add_dead_letter(&opened, seq).await;
    }
    let before = opened.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes;
    let erased = opened.store.erase(selector("a\"b")).await.unwrap();
    assert_eq!(erased_counts(&erased), (2, 1, 1));
    // At the end of the journal nothing is left that was erased, and nobody who reads
    // on stays before it; from memory as from the file.
    let tail = opened.store.read(0, 10).await.unwrap();
    assert_eq!((seqs(&tail), tail.up_to), (vec![2, 4], 4));
    assert_eq!(erased_counts(&opened.store.erase(selector("a")).await.unwrap()), (1, 0, 1));
    let tail = opened.store.read(2, 10).await.unwrap();
    assert_eq!((seqs(&tail), tail.up_to), (vec![], 4));
    assert_eq!(seqs(&opened.store.read(0, 1).await.unwrap()), [2]);
    assert_eq!(dead_letter_calls(&opened).await, ["b"]);
    assert!(opened.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes < before);
    assert!(opened.store.load_call(CallId::new(AVR, "a")).await.unwrap().is_none());
    assert!(opened.store.load_call(CallId::new(AVR, "b")).await.unwrap().is_some());
    let opened = opened.reopen().await;
    opened.store.consumers().await.unwrap();
    let page = opened.store.read(0, 10).await.unwrap();
    assert_eq!((seqs(&page), page.up_to), (vec![2], 2));
    // What comes later is new.
    append_with_contexts(&opened, vec![new_event_with_text(5, "a", AVR, "x")]).await;
    assert_eq!(seqs(&opened.store.read(2, 10).await.unwrap()).len(), 1);
    assert_eq!(erased_counts(&opened.store.erase(selector("a")).await.unwrap()), (1, 0, 1));
    assert_eq!(erased_counts(&opened.store.erase(selector("b")).await.unwrap()), (1, 1, 1));
    assert_eq!(
        opened.store.enforce_retention(retention_policy(0, 0)).await.unwrap().bytes,
        0,
        "counted wrong"
    );
    assert_eq!(erased_counts(&opened.store.erase(selector("b")).await.unwrap()), (0, 0, 0));
}

#[tokio::test]
async fn erase_with_platform_keeps_other_platforms() {
    let opened = open();
    let platforms = [AVR, DSAI, BLACKBOX];
    let events =
        (1..).zip(platforms).map(|(nth, platform)| new_event_with_text(nth, "a", platform, "x"));
    append_with_contexts(&opened, events.collect()).await;
    for seq in 1..=3 {
        add_dead_letter(&opened, seq).await;
    }
    let platform_selector = CallSelector::new("a", Some("dsai")).unwrap();
    assert_eq!(erased_counts(&opened.store.erase(platform_selector).await.unwrap()), (2, 2, 1));
    assert_eq!(seqs(&opened.store.read(0, 10).await.unwrap()), [3]);
    assert!(opened.store.load_call(CallId::new(BLACKBOX, "a")).await.unwrap().is_some());
    assert_eq!(erased_counts(&opened.store.erase(selector("a")).await.unwrap()), (1, 1, 1));
}

#[tokio::test]
async fn erase_covers_earlier_appends_that_are_still_pending() {
    let opened = open();
    let append = |nth| {
        let events = vec![new_event_with_text(nth, "a", AVR, "x")];
        opened.store.append(AppendBatch { events, call: None }, AppendMode::Acknowledged)
    };
    let (before, erased, after) = (append(1), opened.store.erase(selector("a")), append(2));
    let erased = erased.await.unwrap();
    assert_eq!((erased.events, erased.range.up_to), (1, 1));
    assert_eq!((before.await.unwrap(), after.await.unwrap()), (1, 1));
    assert_eq!(seqs(&opened.store.read(0, 10).await.unwrap()), [2]);
}

#[tokio::test]
async fn erase_covers_concurrently_redriven_dead_letters() {
    let opened = open();
    append_with_contexts(&opened, vec![new_event_with_text(1, "a", AVR, "x")]).await;
    opened.store.save_checkpoint("o".into(), Checkpoint::default()).await.unwrap();
    add_dead_letter(&opened, 1).await;
    // In the order in which they are asked, the dead letter is an event again before
    // it is looked for.
    let erased = opened.store.erase(selector("a"));
    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let redriven = opened.store.redrive_dead_letters(all);
    let erased = erased.await.unwrap();
    assert_eq!((redriven.await.unwrap(), erased.events, erased.dead_letters), (1, 2, 0));
    assert!(seqs(&opened.store.read(0, 10).await.unwrap()).is_empty());
    assert!(dead_letter_calls(&opened).await.is_empty());
}

#[tokio::test]
async fn erase_in_slices_does_not_block_writers() {
    let opened = open();
    for nth in 0..12 {
        let events = (0..500u32).map(|n| {
            let number = nth * 500 + n;
            let id = if number.is_multiple_of(10) { "other" } else { "a" };
            let mut identity = [0; 16];
            identity.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
            NewEvent { event_id: EventId(identity), ..new_event_with_text(1, id, AVR, "x") }
        });
        append_with_contexts(&opened, events.collect()).await;
    }
    let mut erasing = opened.store.erase(selector("a"));
    let mut taken = 0;
    let erased = loop {
        tokio::select! {
            erased = &mut erasing => break erased.unwrap(),
            taken_now = opened.store.append(batch(&[taken + 1]), AppendMode::Acknowledged) => {
                taken += u8::try_from(taken_now.unwrap()).unwrap();
            }
        }
    };
    assert_eq!(erased.events, 5_400);
    assert!(taken > 3, "{taken}");
    let mut left = 0;
    let mut after = 0;
    loop {
        let page = opened.store.read(after, 1_000).await.unwrap();
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
    let opened = open();
    let long = "x".repeat(300);
    for key in ["a", "a/1", "call/a", "call/a/1", "ab", "call/ab/1", "A", "call", "x/a-/1"] {
        kv(&opened, key, set_command(20, None)).await.unwrap();
    }
    opened.store.kv("another".into(), "b/a".to_owned(), set_command(10, None)).await.unwrap();
    assert!(matches!(kv(&opened, &long, set_command(300, None)).await, Err(KvError::Quota(_))));
    assert_eq!(opened.store.erase_values("a".into()).await.unwrap(), 5);
    // The same whether it was counted before or is counted anew.
    kv(&opened, &long, set_command(150, None)).await.unwrap();
    assert!(matches!(kv(&opened, "y", set_command(100, None)).await, Err(KvError::Quota(_))));
    for (key, exists) in [("a", false), ("call/a/1", false), ("ab", true), ("call/ab/1", true)] {
        let found = kv(&opened, key, KvCommand::Get).await.unwrap();
        assert_eq!(found != KvAnswer::Value(None), exists, "{key}");
    }
    let opened = opened.reopen().await;
    assert!(matches!(kv(&opened, "y", set_command(100, None)).await, Err(KvError::Quota(_))));
    assert_eq!(opened.store.erase_values("call/ab".into()).await.unwrap(), 1);
    assert_eq!(opened.store.erase_values("a".into()).await.unwrap(), 0);
}

/// Whether a text stands in a file of the folder. Asked of another process: to close a
/// file that SQLite has open would end its locks.
fn is_readable(folder: &Path, text: &str) -> bool {
    let mut grep = std::process::Command::new("grep");
    grep.args(["-rqaF", "--", text]).arg(folder).status().unwrap().success()
}

#[tokio::test]
async fn erased_and_replaced_data_is_unreadable_in_files() {
    let opened = open();
    for nth in 0..20 {
        append_with_contexts(&opened, vec![new_event_with_text(nth, "a", AVR, "Marker-one")]).await;
        append_with_contexts(&opened, vec![new_event_with_text(100 + nth, "b", AVR, "Marker-two")])
            .await;
    }
    add_dead_letter(&opened, 1).await;
    let value = b"Marker-three".repeat(30);
    kv(&opened, "x/a/y", KvCommand::Set { value, ttl: None }).await.unwrap();
    // An older value is as readable as the newer one, unless it is overwritten.
    kv(&opened, "x/a/y", set_command(500, None)).await.unwrap();
    for marker in ["Marker-one", "Marker-two", "Marker-three"] {
        assert!(is_readable(opened.folder.path(), marker), "{marker}");
    }
    opened.store.erase(selector("a")).await.unwrap();
    opened.store.erase_values("a".into()).await.unwrap();
    opened.store.truncate_wal().await.unwrap();
    for (marker, exists) in [("Marker-one", false), ("Marker-two", true), ("Marker-three", false)] {
        assert_eq!(is_readable(opened.folder.path(), marker), exists, "{marker}");
    }
}

#[tokio::test]
async fn wal_truncation_waits_for_readers() {
    let opened = open();
    append_with_contexts(&opened, vec![new_event_with_text(1, "a", AVR, "Marker")]).await;
    let other =
        rusqlite::Connection::open(SqliteStore::database_path(opened.folder.path())).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM events").unwrap();
    opened.store.erase(selector("a")).await.unwrap();
    let truncation = opened.store.truncate_wal();
    let ended = tokio::time::timeout(Duration::from_millis(300), truncation).await;
    assert!(ended.is_err(), "it cannot be empty");
    assert!(is_readable(opened.folder.path(), "Marker"));
    // Others are not held up.
    append_with_contexts(&opened, vec![new_event_with_text(2, "b", AVR, "x")]).await;
    let truncation = opened.store.truncate_wal();
    other.execute_batch("COMMIT").unwrap();
    truncation.await.unwrap();
    assert!(!is_readable(opened.folder.path(), "Marker"));
}
