//! The store on its own.

mod erase;

use std::collections::HashSet;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::event::tests::call;
use crate::event::{Event, EventBody, EventKind, Kinds};
use crate::store::{CallDocument, Identity, Record};

const QUOTA: usize = 1_000;

struct Opened {
    store: Sqlite,
    folder: TempDir,
}

fn open_in(folder: TempDir) -> Opened {
    let store = Sqlite::start(folder.path(), JournalConfig::default(), QUOTA).unwrap();
    Opened { store, folder }
}

fn open() -> Opened {
    open_in(TempDir::new().unwrap())
}

impl Opened {
    async fn reopened(self) -> Self {
        self.store.close().await;
        open_in(self.folder)
    }
}

fn record(nth: u8) -> Record {
    let timestamp = jiff::Timestamp::from_millisecond(nth.into()).unwrap();
    let call = Arc::new(call("2000", "5001", r#"{"channel":"ü"}"#));
    let event =
        Event { call: Arc::clone(&call), timestamp, body: EventBody::Started, delivery: None };
    Record {
        identity: Identity([nth; 16]),
        accepted: now(),
        call: serde_json::to_string(&*call).unwrap().into(),
        body: serde_json::to_string(&event.body).unwrap().into(),
        event: Arc::new(event),
    }
}

fn writes(numbers: &[u8]) -> Writes {
    Writes { events: numbers.iter().copied().map(record).collect(), call: None }
}

fn places(page: &Page) -> Vec<Seq> {
    page.events.iter().map(|event| event.seq).collect()
}

/// An event that an observer could not take.
fn letter(observer: &str, event: &Stored) -> DeadLetter {
    DeadLetter {
        id: 0,
        observer: observer.into(),
        identity: event.identity,
        kind: event.kind(),
        call: event.event.call.id.clone(),
        accepted: event.accepted,
        at: now(),
        attempts: 3,
        error: "why".to_owned(),
    }
}

fn upkeep(done: Seq, keep_since: UnixMs) -> Upkeep {
    Upkeep { done, keep_since, expire_before: 0, max_size: 1 << 30 }
}

#[tokio::test]
async fn events_are_kept_once_and_in_order() {
    let it = open();
    assert_eq!(it.store.append(writes(&[1, 2]), Debt::None).await.unwrap(), 2);
    assert_eq!(it.store.append(writes(&[2, 3, 3]), Debt::None).await.unwrap(), 1);
    let tail = it.store.read(0, 10).await.unwrap();
    assert_eq!((places(&tail), tail.reaches), (vec![1, 2, 3], 3));
    // From the file, as nothing is in memory any more.
    let it = it.reopened().await;
    assert_eq!(it.store.append(writes(&[1, 4]), Debt::None).await.unwrap(), 1);
    let page = it.store.read(0, 2).await.unwrap();
    assert_eq!((places(&page), page.reaches), (vec![1, 2], 2));
    let event = &page.events[0];
    assert_eq!((event.kind(), event.identity), (EventKind::Started, Identity([1; 16])));
    assert_eq!(event.event.call.metadata[0].1.get(), "\"ü\"");
    assert_eq!(places(&it.store.read(2, 9).await.unwrap()), [3, 4]);
    let found = it.store.find(vec![4, 9, 2]).await.unwrap();
    assert_eq!(found.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 2]);
    assert_eq!(*it.store.last().borrow(), 4);
}

#[tokio::test]
async fn a_place_is_never_used_twice() {
    let it = open();
    it.store.append(writes(&[1, 2, 3]), Debt::None).await.unwrap();
    let progress = Progress { position: 3, kinds: Kinds::all(), ..Progress::default() };
    it.store.save("o".into(), progress.clone()).await.unwrap();
    let figures = it.store.tidy(upkeep(3, UnixMs::MAX)).await.unwrap();
    assert_eq!((figures.events, figures.bytes), (0, 0));
    let it = it.reopened().await;
    let observers = it.store.observers().await.unwrap();
    assert_eq!(observers.known, [("o".to_owned(), progress)]);
    assert_eq!(observers.last_before, 3);
    // Whoever asks for what is gone is not sent round in circles.
    let page = it.store.read(1, 10).await.unwrap();
    assert_eq!((places(&page), page.reaches), (vec![], 3));
    it.store.append(writes(&[4]), Debt::None).await.unwrap();
    assert_eq!(places(&it.store.read(3, 10).await.unwrap()), [4]);
}

#[tokio::test]
async fn upkeep_removes_what_is_done_and_bounds_what_is_not() {
    let it = open();
    it.store.append(writes(&[1, 2, 3, 4]), Debt::None).await.unwrap();
    // Done, but not old enough; then old enough, but not done.
    assert_eq!(it.store.tidy(upkeep(4, 0)).await.unwrap().events, 4);
    let left = it.store.tidy(upkeep(1, UnixMs::MAX)).await.unwrap();
    assert_eq!((left.events, left.expired), (3, 0));
    let full = Upkeep { max_size: 10, ..upkeep(1, 0) };
    assert!(it.store.tidy(full.clone()).await.unwrap().bytes > 10);
    let refused = it.store.append(writes(&[5]), Debt::None).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    // What nobody sends again is taken all the same.
    assert_eq!(it.store.append(writes(&[6]), Debt::Owed).await.unwrap(), 1);
    let expired = it.store.tidy(Upkeep { expire_before: UnixMs::MAX, ..full }).await.unwrap();
    assert_eq!((expired.expired, expired.events, expired.bytes), (4, 0, 0));
    assert_eq!(it.store.append(writes(&[5]), Debt::None).await.unwrap(), 1);
}

#[tokio::test]
async fn dead_letters_go_to_those_who_are_known() {
    let it = open();
    it.store.append(writes(&[1]), Debt::None).await.unwrap();
    let event = Arc::clone(&it.store.read(0, 1).await.unwrap().events[0]);
    let letter = |observer: &str| letter(observer, &event);
    it.store.save("here".into(), Progress::default()).await.unwrap();
    // Also when the event itself is gone.
    it.store.tidy(upkeep(1, UnixMs::MAX)).await.unwrap();
    for observer in ["here", "gone"] {
        it.store.bury(letter(observer), Arc::clone(&event)).await.unwrap();
    }
    let all = Selection { most: 10, ..Selection::default() };
    let found = it.store.dead(all.clone()).await.unwrap();
    assert_eq!(found.total, [("gone".to_owned(), 1), ("here".to_owned(), 1)]);
    assert_eq!((found.letters[0].attempts, &*found.letters[0].error), (3, "why"));
    assert_eq!(it.store.revive(all.clone()).await.unwrap(), 1);
    let revived = it.store.read(1, 10).await.unwrap();
    assert_eq!(revived.events[0].only.as_deref(), Some("here"));
    assert_eq!(revived.events[0].identity, event.identity);
    assert_eq!(it.store.discard(all.clone()).await.unwrap(), 1);
    assert!(it.store.dead(all).await.unwrap().total.is_empty());
    let figures = it.store.tidy(upkeep(9, UnixMs::MAX)).await.unwrap();
    assert_eq!(figures.bytes, 0, "what was counted is not counted any more");
}

async fn kv(it: &Opened, key: &str, command: KvCommand) -> Result<KvAnswer, KvError> {
    it.store.kv("plugin".into(), key.to_owned(), command).await
}

fn set(length: usize, ttl: Option<Duration>) -> KvCommand {
    KvCommand::Set { value: vec![b'x'; length], ttl }
}

#[tokio::test]
async fn values_have_a_quota_that_is_counted_right() {
    let it = open();
    kv(&it, "a", set(400, None)).await.unwrap();
    kv(&it, "a", set(400, None)).await.unwrap();
    kv(&it, "b", set(400, Some(Duration::ZERO))).await.unwrap();
    // What is past its time makes room.
    kv(&it, "c", set(400, None)).await.unwrap();
    let refused = kv(&it, "d", set(100, None)).await;
    assert!(matches!(refused, Err(KvError::Quota(QUOTA))), "{refused:?}");
    assert_eq!(kv(&it, "c", KvCommand::Delete).await.unwrap(), KvAnswer::Flag(true));
    kv(&it, "d", set(100, None)).await.unwrap();
    // The same after a start, when it is counted anew.
    let it = it.reopened().await;
    assert!(matches!(kv(&it, "e", set(400, None)).await, Err(KvError::Quota(_))));
    kv(&it, "e", set(100, None)).await.unwrap();
    assert_eq!(kv(&it, "b", KvCommand::Get).await.unwrap(), KvAnswer::Value(None));
}

#[tokio::test]
async fn calls_are_remembered_until_their_time_is_over() {
    let it = open();
    let remembered = |until| Writes {
        events: Vec::new(),
        call: Some(CallDocument { key: "avr/a".into(), document: "{}".into(), until }),
    };
    it.store.append(remembered(now() + 60_000), Debt::Owed).await.unwrap();
    let it = it.reopened().await;
    let recall = || it.store.recall("avr/a".to_owned());
    assert_eq!(recall().await.unwrap().as_deref(), Some("{}"));
    it.store.expire("avr/a".to_owned(), now() - 1).await.unwrap();
    assert_eq!(recall().await.unwrap(), None);
    it.store.tidy(upkeep(0, 0)).await.unwrap();
    it.store.expire("avr/a".to_owned(), now() + 60_000).await.unwrap();
    assert_eq!(recall().await.unwrap(), None, "it is gone");
}

/// Has everything that is asked for by `ask` done in one transaction, which fails.
async fn failing<T>(it: &Opened, ask: impl FnOnce() -> T) -> T {
    let ((running, runs), (go, goes)) = (oneshot::channel(), std::sync::mpsc::channel());
    let held = it.store.writer.ask(move |_| {
        running.send(()).unwrap();
        goes.recv().unwrap();
        Ok(())
    });
    // From now on, what comes is in the next transaction.
    runs.await.unwrap();
    let asked = ask();
    let broken = it.store.writer.ask(|work| work.db.execute_batch("nonsense"));
    go.send(()).unwrap();
    held.await.unwrap();
    assert!(broken.await.is_err());
    asked
}

#[tokio::test]
async fn a_transaction_that_fails_has_not_happened() {
    let it = open();
    it.store.append(writes(&[1]), Debt::None).await.unwrap();
    let append = |numbers: &[u8], debt| it.store.append(writes(numbers), debt);
    let (refused, owed) =
        failing(&it, || (append(&[2, 3], Debt::None), append(&[4], Debt::Owed))).await;
    assert!(refused.await.is_err() && owed.await.is_err());
    assert_eq!(places(&it.store.read(0, 10).await.unwrap()), [1]);
    // What was refused is new when it comes again; what is owed comes before it.
    assert_eq!(append(&[2, 3, 1], Debt::None).await.unwrap(), 2);
    let kept = |page: &Page| -> Vec<(Seq, u8)> {
        page.events.iter().map(|event| (event.seq, event.identity.0[0])).collect()
    };
    let all = [(1, 1), (2, 4), (3, 2), (4, 3)];
    assert_eq!(kept(&it.store.read(0, 10).await.unwrap()), all);
    let it = it.reopened().await;
    it.store.observers().await.unwrap();
    assert_eq!(kept(&it.store.read(0, 10).await.unwrap()), all);
}

#[tokio::test]
async fn a_value_past_its_time_is_not_read() {
    let it = open();
    kv(&it, "a", set(10, Some(Duration::ZERO))).await.unwrap();
    assert_eq!(kv(&it, "a", KvCommand::Get).await.unwrap(), KvAnswer::Value(None));
}
