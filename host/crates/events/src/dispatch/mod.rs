//! Telling observers what happened: a task for each, which reads the journal on its
//! own, so that one that is slow or fails delays nobody but itself; and the upkeep
//! of the journal, which knows how far all of them are.

mod attempt;
mod consumer;
mod spans;
mod tombstones;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::consumer::{Consumer, ConsumerProgress, ConsumerShared};
pub use self::tombstones::DeliveryHold;
use self::tombstones::Tombstones;
use crate::journal::Subscriptions;
use plugboard_config::{EventsConfig, JournalConfig};
use plugboard_core::call_selector::CallSelector;
use plugboard_core::event::EventKinds;
use plugboard_registry::{Generation, Registry};
use plugboard_runtime::plugin::Hook;
use plugboard_store::{
    Checkpoint, RetentionPolicy, Seq, Store, StoreStats, UnixMs, unix_ago, unix_now,
};

/// How often the journal is looked after.
const RETENTION_INTERVAL: Duration = Duration::from_secs(2);

/// How long after a start an observer without a file is waited for, at least.
const MISSING_PLUGIN_GRACE: Duration = Duration::from_secs(5 * 60);

/// How often the store is asked at start, when it cannot be used.
const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Observers at work. Ends with [`Dispatcher::stop`].
pub struct Dispatcher {
    supervisor_task: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    adopted_generation: watch::Receiver<u64>,
    stats: Arc<Mutex<StoreStats>>,
    lags: ConsumerLags,
    tombstones: Arc<Tombstones>,
}

/// How many events wait for each observer.
type ConsumerLags = Arc<Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>>;

impl Dispatcher {
    /// Starts an observer for every plugin that wants events and those that are
    /// known from before; `concurrency` of their guests may run at the same time. What is
    /// under way at the end has `grace`.
    pub fn start(
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        subscriptions: Arc<Subscriptions>,
        events: EventsConfig,
        journal: JournalConfig,
        concurrency: usize,
        grace: Duration,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let (adopted_sender, adopted_generation) = watch::channel(0);
        let stats = Arc::new(Mutex::new(StoreStats::default()));
        let tombstones = Arc::new(Tombstones::default());
        let shared = Arc::new(ConsumerShared {
            registry,
            store,
            tombstones: Arc::clone(&tombstones),
            config: events,
            permits: Arc::new(Semaphore::new(concurrency)),
            max_per_consumer: AtomicUsize::new(concurrency),
            stopping,
        });
        let lags = ConsumerLags::default();
        let supervisor = Supervisor {
            shared,
            journal,
            subscriptions,
            grace,
            concurrency,
            consumers: BTreeMap::new(),
            adopted_generation: adopted_sender,
            stats: Arc::clone(&stats),
            lags: Arc::clone(&lags),
        };
        let supervisor_task = Mutex::new(Some(tokio::spawn(supervisor.run())));
        Self { supervisor_task, stop, adopted_generation, stats, lags, tombstones }
    }

    /// Waits until this generation's observers are told what comes from now on.
    /// Whether they are: not while the store cannot be used.
    pub async fn wait_until_adopted(&self, generation: u64, max_wait: Duration) -> bool {
        let mut adopted_generation = self.adopted_generation.clone();
        let deadline = tokio::time::Instant::now() + max_wait;
        let result =
            timeout_at(deadline, adopted_generation.wait_for(|number| *number >= generation)).await;
        matches!(result, Ok(Ok(_)))
    }

    /// How much is kept, as far as it was looked at.
    pub fn stats(&self) -> StoreStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events wait for each observer, roughly.
    pub fn consumer_lags(&self) -> Vec<(Arc<str>, u64)> {
        let lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.iter().map(|(name, count)| (Arc::clone(name), count.load(Relaxed))).collect()
    }

    /// Has no observer told of a call until it is said what of it is erased, and of
    /// that never again. What is under way may come to its end.
    pub fn hold_deliveries(&self, call: CallSelector) -> DeliveryHold {
        self.tombstones.hold_deliveries(call)
    }

    /// Lets what is under way come to its end; the rest stays in the journal.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let supervisor_task =
            self.supervisor_task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = supervisor_task {
            _ = work.await;
        }
    }
}

/// Sees to it that every observer has its task.
struct Supervisor {
    shared: Arc<ConsumerShared>,
    journal: JournalConfig,
    subscriptions: Arc<Subscriptions>,
    grace: Duration,
    concurrency: usize,
    consumers: BTreeMap<String, RunningConsumer>,
    adopted_generation: watch::Sender<u64>,
    stats: Arc<Mutex<StoreStats>>,
    lags: ConsumerLags,
}

/// An observer with its task.
struct RunningConsumer {
    /// What it wanted last.
    kinds: EventKinds,
    last_seen: UnixMs,
    progress: ConsumerProgress,
    task: JoinHandle<()>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut stopping = self.shared.stopping.clone();
        let mut changes = self.shared.registry.changes();
        let mut upkeep = tokio::time::interval(RETENTION_INTERVAL);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Until the store tells which observers there are, anybody may want anything.
        self.subscriptions.set(EventKinds::all(), true);
        let mut resumed = false;
        while !*stopping.borrow() {
            if !resumed {
                resumed = self.resume().await;
            }
            if resumed {
                let generation = Arc::clone(&changes.borrow_and_update());
                let last = *self.shared.store.last_seq().borrow();
                // What is missing is tried again with the upkeep.
                _ = self.adopt(&generation, last).await;
            }
            let again = tokio::time::sleep(STORE_RETRY_INTERVAL);
            tokio::select! {
                _ = stopping.changed() => {}
                _ = changes.changed(), if resumed => {}
                _ = upkeep.tick(), if resumed => self.enforce_retention(&changes).await,
                () = again, if !resumed => {}
            }
        }
        for (_, RunningConsumer { task: work, .. }) in self.consumers {
            _ = work.await;
        }
    }

    /// Goes on with the observers of the last run. Whether the store told of them.
    async fn resume(&mut self) -> bool {
        let Ok(stored_consumers) = self.shared.store.consumers().await else { return false };
        for (name, progress) in stored_consumers.checkpoints {
            if !self.consumers.contains_key(&name) {
                // Nobody could see it while we were not here, and its file may just be
                // replaced.
                let keep = self.journal.keep;
                let last_seen = progress
                    .last_seen
                    .max(unix_ago(keep.saturating_sub(keep.min(MISSING_PLUGIN_GRACE))));
                self.start(name, Checkpoint { last_seen, ..progress });
            }
        }
        // What was accepted while the store did not answer is for the observers
        // that there are now.
        let generation = self.shared.registry.current();
        self.adopt(&generation, stored_consumers.last_seq_before_start).await
    }

    fn start(&mut self, name: String, checkpoint: Checkpoint) {
        let shared = Arc::clone(&self.shared);
        let shared_name = Arc::<str>::from(name.as_str());
        let (consumer, progress) = Consumer::new(Arc::clone(&shared_name), shared, &checkpoint);
        let Checkpoint { kinds, last_seen: seen, .. } = checkpoint;
        self.lock_lags().insert(shared_name, Arc::clone(&progress.lag));
        let task = tokio::spawn(consumer.run(self.grace));
        self.consumers.insert(name, RunningConsumer { kinds, last_seen: seen, progress, task });
        self.rebalance_concurrency();
    }

    fn lock_lags(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<AtomicU64>>> {
        self.lags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no observer take all places.
    fn rebalance_concurrency(&self) {
        let per_consumer = self.concurrency / self.consumers.len().max(1);
        self.shared.max_per_consumer.store(per_consumer.max(1), Relaxed);
    }

    /// Ends an observer, and forgets how far it was.
    async fn remove_consumer(&mut self, name: &str, why: &'static str) {
        let Some(consumer) = self.consumers.remove(name) else { return };
        consumer.task.abort();
        _ = consumer.task.await;
        let events = consumer.progress.lag.load(Relaxed);
        tracing::warn!(observer = name, events, why, "an observer is forgotten");
        self.lock_lags().remove(name);
        self.rebalance_concurrency();
        if let Err(error) = self.shared.store.remove_consumer(name.to_owned()).await {
            tracing::warn!(observer = name, "it is remembered until the next start: {error}");
        }
    }

    /// Takes up the observers of a generation. One that was never there is told
    /// what comes after `last`. Whether all are known to the store, so that a restart
    /// goes on with them.
    async fn adopt(&mut self, generation: &Generation, last: Seq) -> bool {
        let now = unix_now();
        for plugin in generation.plugins().filter(|plugin| plugin.has_hook(Hook::Observer)) {
            if !self.consumers.contains_key(&**plugin.name()) {
                let (position, kinds) = (last, plugin.event_kinds());
                let checkpoint =
                    Checkpoint { seq: position, unacked: Vec::new(), kinds, last_seen: now };
                let name = Arc::clone(plugin.name());
                if self.shared.store.save_checkpoint(name, checkpoint.clone()).await.is_err() {
                    return false;
                }
                self.start(plugin.name().to_string(), checkpoint);
            }
        }
        let unsubscribed = generation.plugins().filter(|plugin| !plugin.has_hook(Hook::Observer));
        let unsubscribed: Vec<String> = unsubscribed
            .map(|plugin| plugin.name().to_string())
            .filter(|name| self.consumers.contains_key(name))
            .collect();
        for name in unsubscribed {
            self.remove_consumer(&name, "its plugin observes no more").await;
        }
        let mut subscribed_kinds = generation.event_kinds();
        for (name, consumer) in &mut self.consumers {
            match generation.plugin(name) {
                Some(plugin) => {
                    consumer.kinds = plugin.event_kinds();
                    consumer.last_seen = now;
                }
                // Broken or switched off, it is waited for.
                None if generation.has_file(name) => consumer.last_seen = now,
                None => {}
            }
            subscribed_kinds = subscribed_kinds.union(consumer.kinds);
        }
        self.subscriptions.set(subscribed_kinds, generation.needs_call_context());
        self.adopted_generation.send_replace(generation.number);
        true
    }

    /// Forgets observers that are gone, and removes what need not be kept.
    async fn enforce_retention(&mut self, changes: &watch::Receiver<Arc<Generation>>) {
        let generation = self.shared.registry.current();
        let last = *self.shared.store.last_seq().borrow();
        _ = self.adopt(&generation, last).await;
        let retain_since = unix_ago(self.journal.keep);
        let expired_names: Vec<String> = self
            .consumers
            .iter()
            .filter(|(name, consumer)| {
                consumer.last_seen < retain_since && !generation.has_file(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in expired_names {
            self.remove_consumer(&name, "its plugin is gone for longer than journal.keep").await;
        }
        let last = *self.shared.store.last_seq().borrow();
        let acked_up_to = |consumer: &RunningConsumer| *consumer.progress.acked_up_to.borrow();
        let slowest = self.consumers.iter().min_by_key(|(_, known)| acked_up_to(known));
        let min_acked = slowest.map_or(last, |(_, consumer)| acked_up_to(consumer));
        let is_full = self.stats.lock().unwrap_or_else(PoisonError::into_inner).bytes
            > self.journal.max_size as u64;
        if is_full && let Some((name, consumer)) = slowest {
            let events = consumer.progress.lag.load(Relaxed);
            if events > 0 {
                tracing::error!(
                    observer = name,
                    events,
                    "events are refused (503), as the journal has reached journal.max_size; this \
                     observer is the furthest behind: mend it, or remove its file"
                );
            } else {
                tracing::error!(
                    "events are refused (503), as dead letters have reached journal.max_size; see \
                     GET /events/dead, and retry or DELETE them"
                );
            }
        }
        let policy = RetentionPolicy {
            acked_up_to: min_acked,
            // Room is worth more than the memory of what is done.
            retain_since: if is_full { UnixMs::MAX } else { retain_since },
            expire_before: unix_ago(self.journal.max_age),
            max_size: self.journal.max_size as u64,
        };
        loop {
            let Ok(new_stats) = self.shared.store.enforce_retention(policy.clone()).await else {
                return;
            };
            if new_stats.expired > 0 {
                tracing::error!(
                    events = new_stats.expired,
                    "events waited for longer than journal.max_age, and are given up"
                );
            }
            let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
            let expired = stats.expired + new_stats.expired;
            *stats = StoreStats { expired, ..new_stats };
            drop(stats);
            // New observers do not wait for it; the rest comes with the next look.
            let has_new_generation = changes.has_changed().unwrap_or(true);
            if !new_stats.has_more || has_new_generation || *self.shared.stopping.borrow() {
                return;
            }
        }
    }
}
