//! One observer: reads the journal from where it was, tells the plugin, tries
//! again, gives up, and keeps how far it is. The plugin is looked up for every
//! event, so that a new version takes over at once; while there is none, or it is
//! set aside, everything waits in the journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::attempt::{DeliveryOutcome, RetryReason, deliver};
use super::tombstones::Tombstones;
use super::window::{DeliveryWindow, PendingDelivery};
use plugboard_config::EventsConfig;
use plugboard_core::event::EventKinds;
use plugboard_registry::{Generation, Registry};
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store::{Checkpoint, JournalEvent, JournalPage, Seq, Store, StoreError, StoreFuture};

/// Events that are read at once.
const PAGE_EVENTS: usize = 256;

/// How often progress is kept while there is some: after the end of the process,
/// what was done since then is told again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(25);

/// Before the store is asked again that could not answer.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Before an event is told for which there was no room, or whose plugin is set
/// aside.
const UNAVAILABLE_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What all observers share.
pub(super) struct ConsumerShared {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) config: EventsConfig,
    /// Calls of which nothing is told.
    pub(super) tombstones: Arc<Tombstones>,
    /// Places for events among the guests.
    pub(super) permits: Arc<Semaphore>,
    /// How many places one observer may have, so that none takes all.
    pub(super) max_per_consumer: AtomicUsize,
    /// Whether all shall come to its end.
    pub(super) stopping: watch::Receiver<bool>,
}

/// How far an observer is, for those who look after the journal.
pub(super) struct ConsumerProgress {
    /// Up to here, nothing need be kept for it.
    pub(super) acked_up_to: watch::Receiver<Seq>,
    /// How many events wait for it, roughly.
    pub(super) lag: Arc<AtomicU64>,
}

/// See the [module](self).
pub(super) struct Consumer {
    name: Arc<str>,
    shared: Arc<ConsumerShared>,
    window: DeliveryWindow,
    /// Read before and not done, as long as it is not in the window.
    recovered: Vec<(Seq, u32)>,
    /// Read up to here.
    read_up_to: Seq,
    /// As it serves now.
    plugin: Option<Arc<Plugin>>,
    /// The version that was told last.
    plugin_version: Option<u64>,
    kinds: EventKinds,
    last_seen: i64,
    in_flight: JoinSet<DeliveryOutcome>,
    pending_read: Option<StoreFuture<JournalPage>>,
    pending_save: Option<StoreFuture<()>>,
    /// What nothing need be kept of, once that is saved.
    saved_acked_up_to: Seq,
    /// Whether there is progress to keep.
    is_dirty: bool,
    next_save: Instant,
    /// Nothing is read before then, as the store could not be.
    next_read: Instant,
    /// Nothing is told before then, as the plugin is set aside.
    next_delivery: Instant,
    acked_up_to: watch::Sender<Seq>,
    lag: Arc<AtomicU64>,
}

impl Consumer {
    /// An observer, that goes on from there.
    pub(super) fn new(
        name: Arc<str>,
        shared: Arc<ConsumerShared>,
        checkpoint: &Checkpoint,
    ) -> (Self, ConsumerProgress) {
        let initial_acked = checkpoint.acked_up_to();
        let (acked_sender, acked_up_to) = watch::channel(initial_acked);
        let lag = Arc::new(AtomicU64::new(0));
        let progress = ConsumerProgress { acked_up_to, lag: Arc::clone(&lag) };
        let now = Instant::now();
        let consumer = Self {
            name,
            shared,
            window: DeliveryWindow::default(),
            recovered: checkpoint.unacked.clone(),
            read_up_to: checkpoint.seq,
            plugin: None,
            plugin_version: None,
            kinds: checkpoint.kinds,
            last_seen: checkpoint.last_seen,
            in_flight: JoinSet::new(),
            pending_read: None,
            pending_save: None,
            saved_acked_up_to: initial_acked,
            is_dirty: false,
            next_save: now,
            next_read: now,
            next_delivery: now,
            acked_up_to: acked_sender,
            lag,
        };
        (consumer, progress)
    }

    /// Works until the service stops; `grace` is for what is under way then.
    pub(super) async fn run(mut self, grace: Duration) {
        let mut last = self.shared.store.last_seq();
        let mut generation = self.shared.registry.changes();
        let mut stopping = self.shared.stopping.clone();
        let mut erased = self.shared.tombstones.subscribe();
        self.reload_unacked().await;
        generation.mark_changed();
        erased.mark_changed();
        while !*stopping.borrow() {
            let last_seq_now = *last.borrow_and_update();
            if generation.has_changed().unwrap_or(false) {
                let generation = Arc::clone(&generation.borrow_and_update());
                self.adopt(&generation);
            }
            if erased.has_changed().unwrap_or(false) {
                erased.mark_unchanged();
                self.remove_erased();
            }
            if let Some(plugin) = self.plugin.clone() {
                self.start_read(last_seq_now);
                self.start_deliveries(&plugin);
            }
            let unread = u64::try_from(last_seq_now - self.read_up_to).unwrap_or(0);
            self.lag.store(unread + self.window.len() as u64, Relaxed);
            self.start_save();
            let wake = self.next_wake(last_seq_now);
            tokio::select! {
                biased;
                _ = stopping.changed() => {}
                Some(told) = self.in_flight.join_next() => self.finish_delivery(told),
                page = await_if_some(&mut self.pending_read) => self.finish_read(page),
                saved = await_if_some(&mut self.pending_save) => self.finish_save(saved),
                _ = last.changed() => {}
                // Looked at where the loop begins.
                _ = generation.changed() => generation.mark_changed(),
                _ = erased.changed() => erased.mark_changed(),
                () = sleep_until(wake) => {}
            }
        }
        self.finish(grace).await;
    }

    /// Goes on with the plugin of a generation. What another version failed over is
    /// told to a new one at once.
    fn adopt(&mut self, generation: &Generation) {
        let plugin = generation.plugin(&self.name).filter(|plugin| plugin.has_hook(Hook::Observer));
        self.plugin = plugin.cloned();
        let Some(plugin) = plugin else { return };
        self.kinds = plugin.event_kinds();
        if self.plugin_version.replace(plugin.id()).is_some_and(|version| version != plugin.id()) {
            self.window.reset_backoff();
            self.next_delivery = Instant::now();
        }
    }

    /// Reads again what was read before and not done.
    async fn reload_unacked(&mut self) {
        let mut stopping = self.shared.stopping.clone();
        let seqs: Vec<Seq> = self.recovered.iter().map(|(seq, _)| *seq).collect();
        let events = loop {
            if seqs.is_empty() || *stopping.borrow() {
                return;
            }
            match self.shared.store.find_events(seqs.clone()).await {
                Ok(events) => break events,
                Err(_) => {
                    tokio::select! {
                        _ = stopping.changed() => {}
                        () = tokio::time::sleep(STORE_RETRY_DELAY) => {}
                    }
                }
            }
        };
        let recovered = std::mem::take(&mut self.recovered);
        // What was erased meanwhile is not waited for.
        self.is_dirty |= events.len() < recovered.len();
        for event in events {
            // In order, as it was kept.
            let index = recovered.binary_search_by_key(&event.seq, |(seq, _)| *seq).ok();
            let recovered_entry = index.and_then(|place| recovered.get(place));
            let attempts = recovered_entry.map_or(0, |(_, attempts)| *attempts);
            self.window.push(PendingDelivery { event, attempts });
        }
    }

    /// Asks for more, if there is more and room for it.
    fn start_read(&mut self, last_seq: Seq) {
        let needs_more = self.read_up_to < last_seq && self.window.has_room();
        if self.pending_read.is_none() && needs_more && Instant::now() >= self.next_read {
            self.pending_read = Some(self.shared.store.read(self.read_up_to, PAGE_EVENTS));
        }
    }

    fn finish_read(&mut self, result: Result<JournalPage, StoreError>) {
        self.pending_read = None;
        let Ok(page) = result else {
            self.next_read = Instant::now() + STORE_RETRY_DELAY;
            return;
        };
        let tombstones = &self.shared.tombstones;
        for event in page.events {
            if tombstones.is_erased(&event) {
                continue;
            }
            // If the plugin went while this was read, it is judged when it is told.
            if self.plugin.as_ref().is_none_or(|plugin| self.is_subscribed(plugin, &event)) {
                self.window.push(PendingDelivery { event, attempts: 0 });
            }
        }
        self.read_up_to = self.read_up_to.max(page.up_to);
        self.is_dirty = true;
    }

    /// Lets go of what was erased.
    fn remove_erased(&mut self) {
        let tombstones = &self.shared.tombstones;
        self.is_dirty |= self.window.remove_erased(|event| tombstones.is_erased(event));
    }

    /// Whether the plugin's settings ask for an event.
    fn is_subscribed(&self, plugin: &Plugin, event: &JournalEvent) -> bool {
        match &event.target {
            Some(target) => *target == self.name,
            None => {
                plugin.event_kinds().contains(event.kind())
                    && plugin.settings().accepts_call(&event.event.call)
            }
        }
    }

    /// How many deliveries there may be at a time.
    fn max_in_flight(&self) -> usize {
        self.shared.config.concurrency.min(self.shared.max_per_consumer.load(Relaxed)).max(1)
    }

    /// Starts as many deliveries as there may be.
    fn start_deliveries(&mut self, plugin: &Arc<Plugin>) {
        let now = Instant::now();
        while now >= self.next_delivery && self.in_flight.len() < self.max_in_flight() {
            let Some(delivery) = self.window.next(now) else { return };
            // Another version may have asked for it.
            if !self.is_subscribed(plugin, &delivery.event) {
                self.window.ack(&delivery);
                self.is_dirty = true;
                continue;
            }
            let shared = Arc::clone(&self.shared);
            self.in_flight.spawn(deliver(shared, Arc::clone(plugin), delivery));
        }
    }

    fn finish_delivery(&mut self, joined: Result<DeliveryOutcome, tokio::task::JoinError>) {
        // A panic of ours would leave its event running for ever; the process ends
        // tasks only when it ends itself.
        let Ok(DeliveryOutcome { mut delivery, result }) = joined else {
            tracing::error!(
                observer = &*self.name,
                "the host panicked over an event, which waits until the next start; please report it"
            );
            return;
        };
        let now = Instant::now();
        match result {
            Ok(()) => {
                self.window.ack(&delivery);
                self.is_dirty = true;
            }
            Err(_) if self.shared.tombstones.is_erased(&delivery.event) => {
                self.window.ack(&delivery);
                self.is_dirty = true;
            }
            Err(RetryReason::Failed) => {
                delivery.attempts += 1;
                self.window
                    .retry_at(&delivery, now + retry_delay(&self.shared.config, delivery.attempts));
                self.is_dirty = true;
            }
            Err(RetryReason::Unavailable) => {
                self.window.retry_at(&delivery, now + UNAVAILABLE_RETRY_DELAY)
            }
            Err(RetryReason::CircuitOpen) => {
                self.next_delivery = now + UNAVAILABLE_RETRY_DELAY;
                self.window.retry_at(&delivery, now + UNAVAILABLE_RETRY_DELAY);
            }
        }
    }

    /// Keeps how far it is, if that changed, now and then.
    fn start_save(&mut self) {
        if self.is_dirty && self.pending_save.is_none() && Instant::now() >= self.next_save {
            self.is_dirty = false;
            self.next_save = Instant::now() + CHECKPOINT_INTERVAL;
            let checkpoint = self.checkpoint();
            self.saved_acked_up_to = checkpoint.acked_up_to();
            self.pending_save =
                Some(self.shared.store.save_checkpoint(Arc::clone(&self.name), checkpoint));
        }
    }

    fn finish_save(&mut self, result: Result<(), StoreError>) {
        self.pending_save = None;
        if result.is_ok() {
            self.acked_up_to.send_replace(self.saved_acked_up_to);
        } else {
            self.is_dirty = true;
            self.next_save = Instant::now() + STORE_RETRY_DELAY;
        }
    }

    fn checkpoint(&mut self) -> Checkpoint {
        if self.plugin.is_some() {
            self.last_seen = plugboard_store::unix_now();
        }
        Checkpoint {
            seq: self.read_up_to,
            unacked: [&self.recovered[..], &self.window.unacked()].concat(),
            kinds: self.kinds,
            last_seen: self.last_seen,
        }
    }

    /// When to look again though nothing happens.
    fn next_wake(&self, last_seq: Seq) -> Instant {
        let has_plugin = self.plugin.is_some();
        let can_deliver = has_plugin && self.in_flight.len() < self.max_in_flight();
        let delivery_at = self.window.next_retry_at().filter(|_| can_deliver);
        let delivery_at = delivery_at.map(|retry_at| retry_at.max(self.next_delivery));
        let save_at = (self.is_dirty && self.pending_save.is_none()).then_some(self.next_save);
        let can_read = has_plugin && self.pending_read.is_none() && self.read_up_to < last_seq;
        let read_at = (can_read && self.window.has_room()).then_some(self.next_read);
        let idle_wake = Instant::now() + Duration::from_secs(60);
        [delivery_at, save_at, read_at].into_iter().flatten().min().unwrap_or(idle_wake)
    }

    /// Lets what is under way come to its end, and keeps how far it is.
    async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(joined)) =
            tokio::time::timeout_at(deadline, self.in_flight.join_next()).await
        {
            self.finish_delivery(joined);
        }
        self.in_flight.shutdown().await;
        if let Some(saving) = self.pending_save.take() {
            _ = saving.await;
        }
        let checkpoint = self.checkpoint();
        if let Err(error) =
            self.shared.store.save_checkpoint(Arc::clone(&self.name), checkpoint).await
        {
            tracing::warn!(
                observer = &*self.name,
                "its progress is not kept, and some events will come again: {error}"
            );
        }
    }
}

/// How long to wait after so many failures.
fn retry_delay(config: &EventsConfig, attempts: u32) -> Duration {
    let exponential = config.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    // Spread, so that what failed together does not come again together.
    exponential.min(config.max_backoff).mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// What comes of it, if something was asked for.
async fn await_if_some<T>(pending: &mut Option<StoreFuture<T>>) -> Result<T, StoreError> {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
