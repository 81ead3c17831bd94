//! The supervisor: starts and removes consumers, and enforces retention of the
//! journal, which depends on the checkpoints of all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::consumer::{Consumer, ConsumerLags, ConsumerProgress};
use super::shared::ConsumerShared;
use crate::journal::Subscriptions;
use plugboard_config::JournalConfig;
use plugboard_core::event::EventKinds;
use plugboard_registry::{Generation, Registry};
use plugboard_runtime::plugin::Hook;
use plugboard_store::{Checkpoint, RetentionPolicy, Seq, StoreStats, UnixMs, unix_ago, unix_now};

/// The interval of retention runs.
const RETENTION_INTERVAL: Duration = Duration::from_secs(2);

/// Time after a start for which a consumer is kept without a file of its plugin.
const MISSING_PLUGIN_GRACE: Duration = Duration::from_secs(5 * 60);

/// The interval of attempts to read the consumers from the store at start.
const STORE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs one consumer per observer. See the module documentation.
pub struct Supervisor {
    pub(super) shared: Arc<ConsumerShared>,
    pub(super) journal: JournalConfig,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) grace: Duration,
    pub(super) concurrency: usize,
    pub(super) tasks: TaskTracker,
    pub(super) consumers: BTreeMap<String, RunningConsumer>,
    pub(super) adopted_generation: watch::Sender<u64>,
    pub(super) stats: Arc<Mutex<StoreStats>>,
    pub(super) lags: Arc<Mutex<ConsumerLags>>,
}

/// A running consumer with its task.
pub(super) struct RunningConsumer {
    /// The kinds of events that its plugin last subscribed to.
    kinds: EventKinds,
    last_seen: UnixMs,
    progress: ConsumerProgress,
    /// Ends the task at once, without a last checkpoint.
    removed: CancellationToken,
    task: JoinHandle<Option<()>>,
}

impl Supervisor {
    /// Delivers events until `stop` is cancelled. Returns when the deliveries in flight have
    /// finished and the checkpoints are saved; all other events stay in the journal.
    pub async fn run(mut self, stop: CancellationToken) {
        let registry = Arc::clone(&self.shared.registry);
        let mut changes = registry.changes();
        let mut retention = tokio::time::interval(RETENTION_INTERVAL);
        retention.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The consumers of the last run are not known yet, and may subscribe to any kind.
        self.subscriptions.set(EventKinds::all(), true);
        let mut resumed = false;
        while !stop.is_cancelled() {
            if !resumed {
                resumed = self.resume(&registry, &stop).await;
            }
            if resumed {
                let generation = Arc::clone(&changes.borrow_and_update());
                let last = *self.shared.store.last_seq().borrow();
                // The next retention run retries after a failure.
                _ = self.adopt(&generation, last, &stop).await;
            }
            let retry = tokio::time::sleep(STORE_RETRY_INTERVAL);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = changes.changed(), if resumed => {}
                _ = retention.tick(), if resumed => self.enforce_retention(&changes, &stop).await,
                () = retry, if !resumed => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Starts the consumers of the last run. Returns whether the store could read them.
    async fn resume(&mut self, registry: &Registry, stop: &CancellationToken) -> bool {
        let Ok(stored_consumers) = self.shared.store.consumers().await else { return false };
        for (name, progress) in stored_consumers.checkpoints {
            if !self.consumers.contains_key(&name) {
                // `last_seen` was not updated while the program was stopped, and the plugin's
                // file may be missing during a replacement.
                let retention = self.journal.retention;
                let last_seen = progress
                    .last_seen
                    .max(unix_ago(retention.saturating_sub(retention.min(MISSING_PLUGIN_GRACE))));
                self.start(name, Checkpoint { last_seen, ..progress }, stop);
            }
        }
        // The current observers receive the events that were accepted while the store could not
        // be read.
        self.adopt(&registry.current(), stored_consumers.last_seq_before_start, stop).await
    }

    fn start(&mut self, name: String, checkpoint: Checkpoint, stop: &CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let shared_name = Arc::<str>::from(name.as_str());
        let (consumer, progress) = Consumer::new(Arc::clone(&shared_name), shared, &checkpoint);
        let Checkpoint { kinds, last_seen, .. } = checkpoint;
        self.lags.lock().insert(shared_name, Arc::clone(&progress.lag));
        let removed = CancellationToken::new();
        let run = consumer.run(stop.clone(), self.grace);
        let task = self.tasks.spawn(removed.clone().run_until_cancelled_owned(run));
        self.consumers.insert(name, RunningConsumer { kinds, last_seen, progress, removed, task });
        self.rebalance_concurrency();
    }

    /// Divides the concurrency among the consumers, so that no consumer takes all of it.
    fn rebalance_concurrency(&self) {
        let per_consumer = self.concurrency / self.consumers.len().max(1);
        self.shared.max_per_consumer.store(per_consumer.max(1), Relaxed);
    }

    /// Ends a consumer and removes its checkpoint.
    async fn remove_consumer(&mut self, name: &str, reason: &'static str) {
        let Some(consumer) = self.consumers.remove(name) else { return };
        consumer.removed.cancel();
        _ = consumer.task.await;
        let events = consumer.progress.lag.load(Relaxed);
        tracing::warn!(observer = name, events, reason, "observer removed with its checkpoint");
        self.lags.lock().remove(name);
        self.rebalance_concurrency();
        if let Err(error) = self.shared.store.remove_consumer(name.to_owned()).await {
            tracing::warn!(
                observer = name,
                %error,
                "cannot remove the checkpoint before the next start"
            );
        }
    }

    /// Starts the consumers that a generation's observers need, removes consumers of plugins
    /// that no longer observe, and updates the subscriptions. A new consumer starts after
    /// `last`. Returns whether the store has all consumers, so that the next start resumes
    /// them.
    async fn adopt(
        &mut self,
        generation: &Generation,
        last: Seq,
        stop: &CancellationToken,
    ) -> bool {
        let now = unix_now();
        for plugin in generation.plugins().filter(|plugin| plugin.has_hook(Hook::Observer)) {
            if !self.consumers.contains_key(&**plugin.name()) {
                let kinds = plugin.event_kinds();
                let checkpoint =
                    Checkpoint { seq: last, unacked: Vec::new(), kinds, last_seen: now };
                let name = Arc::clone(plugin.name());
                if self.shared.store.save_checkpoint(name, checkpoint.clone()).await.is_err() {
                    return false;
                }
                self.start(plugin.name().to_string(), checkpoint, stop);
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
                // The consumer of a broken or disabled plugin is kept.
                None if generation.has_file(name) => consumer.last_seen = now,
                None => {}
            }
            subscribed_kinds = subscribed_kinds.union(consumer.kinds);
        }
        self.subscriptions.set(subscribed_kinds, generation.needs_call_context());
        self.adopted_generation.send_replace(generation.number);
        true
    }

    /// Removes the consumers of removed plugins, and events from the journal.
    async fn enforce_retention(
        &mut self,
        changes: &watch::Receiver<Arc<Generation>>,
        stop: &CancellationToken,
    ) {
        let generation = self.shared.registry.current();
        let last = *self.shared.store.last_seq().borrow();
        _ = self.adopt(&generation, last, stop).await;
        let retain_since = unix_ago(self.journal.retention);
        let expired_names: Vec<String> = self
            .consumers
            .iter()
            .filter(|(name, consumer)| {
                consumer.last_seen < retain_since && !generation.has_file(name)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in expired_names {
            self.remove_consumer(&name, "its plugin is missing for longer than journal.retention")
                .await;
        }
        let policy = self.retention_policy(retain_since);
        loop {
            let Ok(new_stats) = self.shared.store.enforce_retention(policy.clone()).await else {
                return;
            };
            if new_stats.expired > 0 {
                tracing::error!(
                    events = new_stats.expired,
                    "events expired before their delivery (journal.max_age)"
                );
            }
            let mut stats = self.stats.lock();
            let expired = stats.expired + new_stats.expired;
            *stats = StoreStats { expired, ..new_stats };
            drop(stats);
            // A new generation does not wait. The next run removes the rest.
            let has_new_generation = changes.has_changed().unwrap_or(true);
            if !new_stats.has_more || has_new_generation || stop.is_cancelled() {
                return;
            }
        }
    }

    /// Returns the policy for the next run, and logs an error if the journal is full.
    fn retention_policy(&self, retain_since: UnixMs) -> RetentionPolicy {
        let last = *self.shared.store.last_seq().borrow();
        let acked_up_to = |consumer: &RunningConsumer| *consumer.progress.acked_up_to.borrow();
        let slowest = self.consumers.iter().min_by_key(|(_, consumer)| acked_up_to(consumer));
        let min_acked = slowest.map_or(last, |(_, consumer)| acked_up_to(consumer));
        let is_full = self.stats.lock().bytes > self.journal.max_size as u64;
        if is_full && let Some((name, consumer)) = slowest {
            let events = consumer.progress.lag.load(Relaxed);
            if events > 0 {
                tracing::error!(
                    observer = name,
                    events,
                    "the journal is full (journal.max_size); rejecting events with 503; this \
                     observer has the largest lag: fix it, or remove its file"
                );
            } else {
                tracing::error!(
                    "dead letters fill the journal (journal.max_size); rejecting events with 503; \
                     redrive or purge them (/events/dead)"
                );
            }
        }
        RetentionPolicy {
            acked_up_to: min_acked,
            // A full journal removes all acknowledged events, although they deduplicate
            // redeliveries.
            retain_since: if is_full { UnixMs::MAX } else { retain_since },
            expire_before: unix_ago(self.journal.max_age),
            max_size: self.journal.max_size as u64,
        }
    }
}
