//! Tests of delivery to a real plugin.

use std::sync::atomic::AtomicU32;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::journal::Journal;
use plugboard_config::{CallsConfig, Flags, load};
use plugboard_core::call_id::CallId;
use plugboard_core::event::{Event, EventBody};
use plugboard_core::testing::call;
use plugboard_registry::reload::{Reconciler, ReloadMetrics, ScanMode};
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::Loader;
use plugboard_runtime::plugin::error::{CallError, Stage};
use plugboard_store::erase::ErasureResult;
use plugboard_store::sqlite::SqliteStore;
use plugboard_store::{
    AppendBatch, AppendMode, Checkpoint, Consumers, DeadLetter, DeadLetterFilter, DeadLetters,
    JournalEvent, JournalPage, KvAnswer, KvCommand, KvError, RetentionPolicy, Seq, StoreError,
    StoreFuture, UnixMs,
};

/// A sample plugin that reads a value for every event.
const PLUGIN: &str = "60-transcript-log";

const SETTINGS: &str =
    "config = { url = 'https://x' }\nevents.kinds = ['started']\ngrants.kv = true\n";

const MAX_ATTEMPTS: u32 = 3;

/// A store with a defect: access to plugins' values panics a number of times while the host
/// runs a plugin.
struct PanickingStore {
    store: SqliteStore,
    panics_left: AtomicU32,
}

impl Store for PanickingStore {
    fn kv(
        &self,
        namespace: Arc<str>,
        key: String,
        command: KvCommand,
    ) -> StoreFuture<KvAnswer, KvError> {
        if self.panics_left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
            panic!("simulated defect");
        }
        self.store.kv(namespace, key, command)
    }

    fn append(&self, batch: AppendBatch, mode: AppendMode) -> StoreFuture<usize> {
        self.store.append(batch, mode)
    }

    fn read(&self, after: Seq, limit: usize) -> StoreFuture<JournalPage> {
        self.store.read(after, limit)
    }

    fn find_events(&self, seqs: Vec<Seq>) -> StoreFuture<Vec<Arc<JournalEvent>>> {
        self.store.find_events(seqs)
    }

    fn last_seq(&self) -> watch::Receiver<Seq> {
        self.store.last_seq()
    }

    fn consumers(&self) -> StoreFuture<Consumers> {
        self.store.consumers()
    }

    fn save_checkpoint(&self, consumer: Arc<str>, checkpoint: Checkpoint) -> StoreFuture<()> {
        self.store.save_checkpoint(consumer, checkpoint)
    }

    fn remove_consumer(&self, consumer: String) -> StoreFuture<()> {
        self.store.remove_consumer(consumer)
    }

    fn add_dead_letter(&self, letter: DeadLetter, event: Arc<JournalEvent>) -> StoreFuture<()> {
        self.store.add_dead_letter(letter, event)
    }

    fn dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<DeadLetters> {
        self.store.dead_letters(filter)
    }

    fn redrive_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64> {
        self.store.redrive_dead_letters(filter)
    }

    fn purge_dead_letters(&self, filter: DeadLetterFilter) -> StoreFuture<u64> {
        self.store.purge_dead_letters(filter)
    }

    fn set_call_expiry(&self, call: CallId, expires_at: UnixMs) -> StoreFuture<()> {
        self.store.set_call_expiry(call, expires_at)
    }

    fn load_call(&self, call: CallId) -> StoreFuture<Option<String>> {
        self.store.load_call(call)
    }

    fn erase(&self, call: CallSelector) -> StoreFuture<ErasureResult> {
        self.store.erase(call)
    }

    fn erase_values(&self, call: Arc<str>) -> StoreFuture<u64> {
        self.store.erase_values(call)
    }

    fn truncate_wal(&self) -> StoreFuture<()> {
        self.store.truncate_wal()
    }

    fn enforce_retention(&self, policy: RetentionPolicy) -> StoreFuture<StoreStats> {
        self.store.enforce_retention(policy)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }

    fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
        self.store.close()
    }
}

struct NoMetrics;

impl ReloadMetrics for NoMetrics {
    fn record_reconcile(&self, _: bool) {}
    fn record_load_failure(&self, _: Stage) {}
    fn record_unreadable_folder(&self) {}
}

/// Loads the sample plugin, as `cargo xtask test` builds it.
async fn load_plugin(folder: &TempDir, store: &Arc<dyn Store>) -> Arc<Registry> {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(3).unwrap().join(format!("plugins/{PLUGIN}.wasm"));
    std::fs::copy(&path, folder.path().join(format!("{PLUGIN}.wasm")))
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", path.display()));
    std::fs::write(folder.path().join(format!("{PLUGIN}.toml")), SETTINGS).unwrap();
    let config = load(Flags::default(), []).unwrap().config;
    let engine = Engine::start(&config.engine, Purpose::Serve { threads: 2 }).unwrap();
    let loader = Loader::new(engine, None, Some(Arc::clone(store)), &config).unwrap();
    let registry = Arc::new(Registry::default());
    let path = folder.path().to_owned();
    let mut reconciler = Reconciler::new(loader, path, Arc::clone(&registry), Arc::new(NoMetrics));
    reconciler.reconcile(ScanMode::Full).await.unwrap();
    registry
}

/// Checks a condition repeatedly, for at most a minute.
async fn wait_until(what: &str, is_met: impl AsyncFn() -> bool) {
    let poll = async {
        while !is_met().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), poll).await.unwrap_or_else(|_| panic!("timeout: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_during_delivery_counts_as_failed_attempt() {
    let (data, plugins) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = SqliteStore::start(data.path(), JournalConfig::default(), 1 << 20).unwrap();
    let panics_left = AtomicU32::new(MAX_ATTEMPTS);
    let store: Arc<dyn Store> = Arc::new(PanickingStore { store, panics_left });
    let registry = load_plugin(&plugins, &store).await;
    let generation = registry.current();
    let subscriptions = Arc::new(Subscriptions::default());
    let backoff = Duration::from_millis(1);
    let events = EventsConfig {
        max_attempts: MAX_ATTEMPTS,
        initial_backoff: backoff,
        ..EventsConfig::default()
    };
    let (dispatcher, supervisor) = Dispatcher::new(
        registry,
        Arc::clone(&store),
        Arc::clone(&subscriptions),
        events,
        JournalConfig::default(),
        2,
        Duration::from_secs(1),
    );
    let stop = CancellationToken::new();
    let running = tokio::spawn(supervisor.run(stop.clone()));
    assert!(dispatcher.wait_until_adopted(generation.number, Duration::from_secs(60)).await);

    let call = Arc::new(call("2000", "5001", "{}"));
    let events = (1..=2).map(|second| Event {
        call: Arc::clone(&call),
        timestamp: jiff::Timestamp::from_second(second).unwrap(),
        body: EventBody::Started,
        delivery_id: None,
    });
    let journal = Journal::new(Arc::clone(&store), subscriptions, CallsConfig::default());
    Arc::new(journal).accept(events.collect()).await.unwrap();

    // The first event of the call panics until it is a dead letter. The second event is then
    // delivered, and the journal can remove both.
    wait_until("the checkpoint", async || {
        let consumers = store.consumers().await.unwrap();
        consumers.checkpoints.iter().all(|(_, checkpoint)| checkpoint.acked_up_to() == 2)
    })
    .await;
    let filter = DeadLetterFilter { limit: 10, ..DeadLetterFilter::default() };
    let dead = store.dead_letters(filter).await.unwrap().letters;
    let dead: Vec<_> = dead.iter().map(|letter| (letter.attempts, &*letter.error)).collect();
    assert_eq!(dead, [(MAX_ATTEMPTS, &*CallError::HostPanicked.to_string())]);
    let plugin = generation.plugin(PLUGIN).unwrap();
    let failures = plugin.stats().failures;
    assert_eq!(failures.get("host_panicked").copied(), Some(MAX_ATTEMPTS.into()));

    stop.cancel();
    running.await.unwrap();
    store.close().await;
}
