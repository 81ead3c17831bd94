//! Tests of the store without the server.

mod erase;

use std::collections::HashSet;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::{CallDocument, NewEvent};
use plugboard_core::event::{Event, EventBody, EventKind, EventKinds};
use plugboard_core::event_id::EventId;
use plugboard_core::platforms::{AVR, BLACKBOX};
use plugboard_core::testing::call;

const QUOTA: usize = 1_000;

struct TestStore {
    store: SqliteStore,
    folder: TempDir,
}

fn open_in(folder: TempDir) -> TestStore {
    let store = SqliteStore::start(folder.path(), JournalConfig::default(), QUOTA).unwrap();
    TestStore { store, folder }
}

fn open() -> TestStore {
    open_in(TempDir::new().unwrap())
}

impl TestStore {
    async fn reopen(self) -> Self {
        self.store.close().await;
        open_in(self.folder)
    }
}

fn new_event(nth: u8) -> NewEvent {
    let timestamp = jiff::Timestamp::from_millisecond(nth.into()).unwrap();
    let call = Arc::new(call("2000", "5001", r#"{"channel":"ü"}"#));
    let event =
        Event { call: Arc::clone(&call), timestamp, body: EventBody::Started, delivery_id: None };
    NewEvent {
        event_id: EventId([nth; 16]),
        accepted_at: unix_now(),
        call: serde_json::to_string(&*call).unwrap().into(),
        body: serde_json::to_string(&event.body).unwrap().into(),
        event: Arc::new(event),
    }
}

fn batch(numbers: &[u8]) -> AppendBatch {
    AppendBatch { events: numbers.iter().copied().map(new_event).collect(), call: None }
}

fn seqs(page: &JournalPage) -> Vec<Seq> {
    page.events.iter().map(|event| event.seq).collect()
}

/// Returns a dead letter of an event for an observer.
fn dead_letter(observer: &str, event: &JournalEvent) -> DeadLetter {
    DeadLetter {
        id: 0,
        consumer: observer.into(),
        event_id: event.event_id,
        kind: event.kind(),
        call: event.event.call.id.to_string(),
        accepted_at: event.accepted_at,
        dead_lettered_at: unix_now(),
        attempts: 3,
        error: "why".to_owned(),
    }
}

fn retention_policy(done: Seq, keep_since: UnixMs) -> RetentionPolicy {
    RetentionPolicy {
        acked_up_to: done,
        retain_since: keep_since,
        expire_before: 0,
        max_size: 1 << 30,
    }
}

#[tokio::test]
async fn append_deduplicates_and_keeps_order() {
    let fixture = open();
    assert_eq!(fixture.store.append(batch(&[1, 2]), AppendMode::Acknowledged).await.unwrap(), 2);
    assert_eq!(fixture.store.append(batch(&[2, 3, 3]), AppendMode::Acknowledged).await.unwrap(), 1);
    let tail = fixture.store.read(0, 10).await.unwrap();
    assert_eq!((seqs(&tail), tail.up_to), (vec![1, 2, 3], 3));
    // After reopening, nothing is in memory: the page comes from the file.
    let fixture = fixture.reopen().await;
    assert_eq!(fixture.store.append(batch(&[1, 4]), AppendMode::Acknowledged).await.unwrap(), 1);
    let page = fixture.store.read(0, 2).await.unwrap();
    assert_eq!((seqs(&page), page.up_to), (vec![1, 2], 2));
    let event = &page.events[0];
    assert_eq!((event.kind(), event.event_id), (EventKind::Started, EventId([1; 16])));
    assert_eq!(event.event.call.metadata[0].1.get(), "\"ü\"");
    assert_eq!(seqs(&fixture.store.read(2, 9).await.unwrap()), [3, 4]);
    let found = fixture.store.find_events(vec![4, 9, 2]).await.unwrap();
    assert_eq!(found.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(*fixture.store.last_seq().borrow(), 4);
}

#[tokio::test]
async fn sequence_numbers_are_never_reused() {
    let fixture = open();
    fixture.store.append(batch(&[1, 2, 3]), AppendMode::Acknowledged).await.unwrap();
    let checkpoint = Checkpoint { seq: 3, kinds: EventKinds::all(), ..Checkpoint::default() };
    fixture.store.save_checkpoint("o".into(), checkpoint.clone()).await.unwrap();
    let stats = fixture.store.enforce_retention(retention_policy(3, UnixMs::MAX)).await.unwrap();
    assert_eq!((stats.events, stats.bytes), (0, 0));
    let fixture = fixture.reopen().await;
    let consumers = fixture.store.consumers().await.unwrap();
    assert_eq!(consumers.checkpoints, [("o".to_owned(), checkpoint)]);
    assert_eq!(consumers.last_seq_before_start, 3);
    // A read after a removed event returns a page that covers the gap.
    let page = fixture.store.read(1, 10).await.unwrap();
    assert_eq!((seqs(&page), page.up_to), (vec![], 3));
    fixture.store.append(batch(&[4]), AppendMode::Acknowledged).await.unwrap();
    assert_eq!(seqs(&fixture.store.read(3, 10).await.unwrap()), [4]);
}

#[tokio::test]
async fn retention_removes_acked_events_and_bounds_unacked() {
    let fixture = open();
    fixture.store.append(batch(&[1, 2, 3, 4]), AppendMode::Acknowledged).await.unwrap();
    // Acknowledged events that are too young, and old events that are not acknowledged.
    assert_eq!(fixture.store.enforce_retention(retention_policy(4, 0)).await.unwrap().events, 4);
    let left = fixture.store.enforce_retention(retention_policy(1, UnixMs::MAX)).await.unwrap();
    assert_eq!((left.events, left.expired), (3, 0));
    let full_policy = RetentionPolicy { max_size: 10, ..retention_policy(1, 0) };
    assert!(fixture.store.enforce_retention(full_policy.clone()).await.unwrap().bytes > 10);
    let rejected = fixture.store.append(batch(&[5]), AppendMode::Acknowledged).await;
    assert!(matches!(rejected, Err(StoreError::Full)), "{rejected:?}");
    // A full journal still accepts deferred appends, because no platform resends their events.
    assert_eq!(fixture.store.append(batch(&[6]), AppendMode::Deferred).await.unwrap(), 1);
    let expired = fixture
        .store
        .enforce_retention(RetentionPolicy { expire_before: UnixMs::MAX, ..full_policy })
        .await
        .unwrap();
    assert_eq!((expired.expired, expired.events, expired.bytes), (4, 0, 0));
    assert_eq!(fixture.store.append(batch(&[5]), AppendMode::Acknowledged).await.unwrap(), 1);
}

#[tokio::test]
async fn redrive_skips_dead_letters_of_unknown_consumers() {
    let fixture = open();
    fixture.store.append(batch(&[1]), AppendMode::Acknowledged).await.unwrap();
    let event = Arc::clone(&fixture.store.read(0, 1).await.unwrap().events[0]);
    let letter = |observer: &str| dead_letter(observer, &event);
    fixture.store.save_checkpoint("here".into(), Checkpoint::default()).await.unwrap();
    // Redrive also works when retention has removed the event from the journal.
    fixture.store.enforce_retention(retention_policy(1, UnixMs::MAX)).await.unwrap();
    for observer in ["here", "gone"] {
        fixture.store.add_dead_letter(letter(observer), Arc::clone(&event)).await.unwrap();
    }
    let all = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let found = fixture.store.dead_letters(all.clone()).await.unwrap();
    assert_eq!(found.totals, [("gone".to_owned(), 1), ("here".to_owned(), 1)]);
    assert_eq!((found.letters[0].attempts, &*found.letters[0].error), (3, "why"));
    assert_eq!(fixture.store.redrive_dead_letters(all.clone()).await.unwrap(), 1);
    let redriven = fixture.store.read(1, 10).await.unwrap();
    assert_eq!(redriven.events[0].target.as_deref(), Some("here"));
    assert_eq!(redriven.events[0].event_id, event.event_id);
    assert_eq!(fixture.store.purge_dead_letters(all.clone()).await.unwrap(), 1);
    assert!(fixture.store.dead_letters(all).await.unwrap().totals.is_empty());
    let stats = fixture.store.enforce_retention(retention_policy(9, UnixMs::MAX)).await.unwrap();
    assert_eq!(stats.bytes, 0, "removed rows still count");
}

async fn kv(fixture: &TestStore, key: &str, command: KvCommand) -> Result<KvAnswer, KvError> {
    fixture.store.kv("plugin".into(), key.to_owned(), command).await
}

fn set_command(length: usize, ttl: Option<Duration>) -> KvCommand {
    KvCommand::Set { value: vec![b'x'; length], ttl }
}

#[tokio::test]
async fn kv_quota_is_counted_exactly() {
    let fixture = open();
    kv(&fixture, "a", set_command(400, None)).await.unwrap();
    kv(&fixture, "a", set_command(400, None)).await.unwrap();
    kv(&fixture, "b", set_command(400, Some(Duration::ZERO))).await.unwrap();
    // Expired values make room for new ones.
    kv(&fixture, "c", set_command(400, None)).await.unwrap();
    let rejected = kv(&fixture, "d", set_command(100, None)).await;
    assert!(matches!(rejected, Err(KvError::Quota(QUOTA))), "{rejected:?}");
    assert_eq!(kv(&fixture, "c", KvCommand::Delete).await.unwrap(), KvAnswer::Flag(true));
    kv(&fixture, "d", set_command(100, None)).await.unwrap();
    // After a start, the quota is counted again and has the same result.
    let fixture = fixture.reopen().await;
    assert!(matches!(kv(&fixture, "e", set_command(400, None)).await, Err(KvError::Quota(_))));
    kv(&fixture, "e", set_command(100, None)).await.unwrap();
    assert_eq!(kv(&fixture, "b", KvCommand::Get).await.unwrap(), KvAnswer::Value(None));
}

#[tokio::test]
async fn call_contexts_expire() {
    let fixture = open();
    let batch_with_context = |expires_at| AppendBatch {
        events: Vec::new(),
        call: Some(CallDocument { id: CallId::new(AVR, "a"), document: "{}".into(), expires_at }),
    };
    fixture
        .store
        .append(batch_with_context(unix_now() + 60_000), AppendMode::Deferred)
        .await
        .unwrap();
    let fixture = fixture.reopen().await;
    let load_call = || fixture.store.load_call(CallId::new(AVR, "a"));
    assert_eq!(load_call().await.unwrap().as_deref(), Some("{}"));
    fixture.store.set_call_expiry(CallId::new(AVR, "a"), unix_now() - 1).await.unwrap();
    assert_eq!(load_call().await.unwrap(), None);
    fixture.store.enforce_retention(retention_policy(0, 0)).await.unwrap();
    fixture.store.set_call_expiry(CallId::new(AVR, "a"), unix_now() + 60_000).await.unwrap();
    assert_eq!(load_call().await.unwrap(), None, "the context still exists");
}

#[tokio::test]
async fn call_documents_of_existing_files_are_found() {
    let fixture = open();
    let existing_rows = "INSERT INTO calls (key, until, document) VALUES
        ('avr/a/b', 9000000000000000, '1'),
        ('blackbox/a/b', 9000000000000000, '2'),
        ('unknown/a/b', 9000000000000000, '3')";
    fixture.store.writer.submit(|work| work.db.execute_batch(existing_rows)).await.unwrap();
    let load_call = |platform| fixture.store.load_call(CallId::new(platform, "a/b"));
    assert_eq!(load_call(AVR).await.unwrap().as_deref(), Some("1"));
    assert_eq!(load_call(BLACKBOX).await.unwrap().as_deref(), Some("2"));
    // Erasure also finds a platform that this version does not know.
    let selector = CallSelector::new("a/b", None).unwrap();
    assert_eq!(fixture.store.erase(selector).await.unwrap().calls, 3);
}

/// Runs all jobs that `submit` queues in one transaction, which fails.
async fn submit_and_fail_transaction<T>(fixture: &TestStore, submit: impl FnOnce() -> T) -> T {
    let ((start_sender, start_receiver), (release_sender, release_receiver)) =
        (oneshot::channel(), std::sync::mpsc::channel());
    let blocking_job = fixture.store.writer.submit(move |_| {
        start_sender.send(()).unwrap();
        release_receiver.recv().unwrap();
        Ok(())
    });
    // Later jobs are in the next transaction.
    start_receiver.await.unwrap();
    let results = submit();
    let failing_job = fixture.store.writer.submit(|work| work.db.execute_batch("nonsense"));
    release_sender.send(()).unwrap();
    blocking_job.await.unwrap();
    assert!(failing_job.await.is_err());
    results
}

#[tokio::test]
async fn failed_transaction_is_rolled_back() {
    let fixture = open();
    fixture.store.append(batch(&[1]), AppendMode::Acknowledged).await.unwrap();
    let append = |numbers: &[u8], mode| fixture.store.append(batch(numbers), mode);
    let (rejected, deferred) = submit_and_fail_transaction(&fixture, || {
        (append(&[2, 3], AppendMode::Acknowledged), append(&[4], AppendMode::Deferred))
    })
    .await;
    assert!(rejected.await.is_err() && deferred.await.is_err());
    assert_eq!(seqs(&fixture.store.read(0, 10).await.unwrap()), [1]);
    // A rejected event is new when it is delivered again; deferred appends come before it.
    assert_eq!(append(&[2, 3, 1], AppendMode::Acknowledged).await.unwrap(), 2);
    let seqs_and_ids = |page: &JournalPage| -> Vec<(Seq, u8)> {
        page.events.iter().map(|event| (event.seq, event.event_id.0[0])).collect()
    };
    let all = [(1, 1), (2, 4), (3, 2), (4, 3)];
    assert_eq!(seqs_and_ids(&fixture.store.read(0, 10).await.unwrap()), all);
    let fixture = fixture.reopen().await;
    fixture.store.consumers().await.unwrap();
    assert_eq!(seqs_and_ids(&fixture.store.read(0, 10).await.unwrap()), all);
}

#[tokio::test]
async fn expired_kv_value_is_not_read() {
    let fixture = open();
    kv(&fixture, "a", set_command(10, Some(Duration::ZERO))).await.unwrap();
    assert_eq!(kv(&fixture, "a", KvCommand::Get).await.unwrap(), KvAnswer::Value(None));
}
