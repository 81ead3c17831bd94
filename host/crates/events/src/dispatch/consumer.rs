//! The consumer of one observer: it reads the journal after its checkpoint and delivers events
//! to the plugin. It retries with exponential backoff, moves events to the dead-letter queue
//! after the last attempt, and saves its checkpoint.
//!
//! Every delivery uses the plugin of the current generation, so a new version takes
//! over at once. While there is no plugin, or its circuit breaker is open, events wait
//! in the journal.
//!
//! Without a free instance, or while the circuit breaker is open, no attempt is counted. An
//! event whose last attempt failed is acknowledged only when its dead letter is stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::attempt::{deliver, record_panic};
use super::in_flight::{Delivery, InFlight, RetryReason, Step, StepResult};
use super::shared::ConsumerShared;
use super::window::{DeliveryWindow, PendingDelivery};
use plugboard_config::EventsConfig;
use plugboard_core::event::EventKinds;
use plugboard_registry::Generation;
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store::{Checkpoint, JournalEvent, JournalPage, Seq, StoreError, StoreFuture};

/// The maximum number of events that one read returns.
const PAGE_EVENTS: usize = 256;

/// The minimum interval of checkpoints. After a crash, events that were delivered since the
/// last checkpoint are delivered again.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(25);

/// The delay between an error of the store and the next request.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The delay of the next attempt after there was no free instance, or the circuit breaker was
/// open.
const UNAVAILABLE_RETRY_DELAY: Duration = Duration::from_millis(100);

/// The lag of each consumer, in events, by its name.
pub(super) type ConsumerLags = BTreeMap<Arc<str>, Arc<AtomicU64>>;

/// The progress of a consumer, for the supervisor.
pub(super) struct ConsumerProgress {
    /// Sequence number up to which all events are acknowledged and the checkpoint is saved.
    pub(super) acked_up_to: watch::Receiver<Seq>,
    /// The approximate number of events that are not acknowledged.
    pub(super) lag: Arc<AtomicU64>,
}

/// The consumer of one observer, see the [module](self).
pub(super) struct Consumer {
    name: Arc<str>,
    shared: Arc<ConsumerShared>,
    window: DeliveryWindow,
    /// The unacknowledged events of the last checkpoint, until they are in the window.
    recovered: Vec<(Seq, u32)>,
    /// The last sequence number that was read.
    read_up_to: Seq,
    /// The plugin of the current generation.
    plugin: Option<Arc<Plugin>>,
    /// The id of the last version of the plugin.
    plugin_version: Option<u64>,
    kinds: EventKinds,
    last_seen: i64,
    in_flight: InFlight,
    pending_read: Option<StoreFuture<JournalPage>>,
    pending_save: Option<StoreFuture<()>>,
    /// `acked_up_to` of the checkpoint that is being saved.
    saved_acked_up_to: Seq,
    /// True if the checkpoint has changed since it was last saved.
    is_dirty: bool,
    next_save: Instant,
    /// The earliest time of the next read, after an error of the store.
    next_read: Instant,
    /// The earliest time of the next delivery, after the circuit breaker was open.
    next_delivery: Instant,
    acked_up_to: watch::Sender<Seq>,
    lag: Arc<AtomicU64>,
}

impl Consumer {
    /// Creates a consumer that continues at a checkpoint.
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
            in_flight: InFlight::default(),
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

    /// Delivers until `stop` is cancelled. Deliveries in flight then have `grace` to finish.
    pub(super) async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut last = self.shared.store.last_seq();
        let mut generation = self.shared.registry.changes();
        let mut erased = self.shared.tombstones.subscribe();
        stop.run_until_cancelled(self.reload_unacked()).await;
        generation.mark_changed();
        erased.mark_changed();
        while !stop.is_cancelled() {
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
                () = stop.cancelled() => {}
                Some((delivery, step, result)) = self.in_flight.next() => {
                    self.finish_step(delivery, step, result);
                }
                page = await_if_some(&mut self.pending_read) => self.finish_read(page),
                saved = await_if_some(&mut self.pending_save) => self.finish_save(saved),
                _ = last.changed() => {}
                // The start of the loop handles the new generation.
                _ = generation.changed() => generation.mark_changed(),
                _ = erased.changed() => erased.mark_changed(),
                () = sleep_until(wake) => {}
            }
        }
        self.finish(grace).await;
    }

    /// Continues with the plugin of a generation. A new version receives the events that an
    /// earlier version failed to process, without backoff.
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

    /// Reads the unacknowledged events of the last checkpoint. Cancel safe.
    async fn reload_unacked(&mut self) {
        let seqs: Vec<Seq> = self.recovered.iter().map(|(seq, _)| *seq).collect();
        if seqs.is_empty() {
            return;
        }
        let events = loop {
            match self.shared.store.find_events(seqs.clone()).await {
                Ok(events) => break events,
                Err(_) => tokio::time::sleep(STORE_RETRY_DELAY).await,
            }
        };
        let recovered = std::mem::take(&mut self.recovered);
        // Some events may have been erased.
        self.is_dirty |= events.len() < recovered.len();
        for event in events {
            // The binary search relies on the order of a checkpoint, by sequence number.
            let index = recovered.binary_search_by_key(&event.seq, |(seq, _)| *seq).ok();
            let recovered_entry = index.and_then(|place| recovered.get(place));
            let attempts = recovered_entry.map_or(0, |(_, attempts)| *attempts);
            self.window.push(PendingDelivery { event, attempts });
        }
    }

    /// Starts a read, if there are more events and the window has room.
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
            // Without a plugin, the delivery checks the subscription later.
            if self.plugin.as_ref().is_none_or(|plugin| self.is_subscribed(plugin, &event)) {
                self.window.push(PendingDelivery { event, attempts: 0 });
            }
        }
        self.read_up_to = self.read_up_to.max(page.up_to);
        self.is_dirty = true;
    }

    /// Removes erased events from the window.
    fn remove_erased(&mut self) {
        let tombstones = &self.shared.tombstones;
        self.is_dirty |= self.window.remove_erased(|event| tombstones.is_erased(event));
    }

    /// Returns whether the plugin's settings subscribe to an event.
    fn is_subscribed(&self, plugin: &Plugin, event: &JournalEvent) -> bool {
        match &event.target {
            Some(target) => *target == self.name,
            None => {
                plugin.event_kinds().contains(event.kind())
                    && plugin.settings().accepts_call(&event.event.call)
            }
        }
    }

    /// Returns the concurrency limit of this consumer.
    fn max_in_flight(&self) -> usize {
        self.shared.config.concurrency.min(self.shared.max_per_consumer.load(Relaxed)).max(1)
    }

    /// Starts deliveries up to the concurrency limit.
    fn start_deliveries(&mut self, plugin: &Arc<Plugin>) {
        let now = Instant::now();
        while now >= self.next_delivery && self.in_flight.len() < self.max_in_flight() {
            let Some(pending) = self.window.next(now) else { return };
            // An earlier version of the plugin may have subscribed to the event.
            if !self.is_subscribed(plugin, &pending.event) {
                self.window.ack(&pending);
                self.is_dirty = true;
                continue;
            }
            let delivery = Delivery { plugin: Arc::clone(plugin), pending, started_at: now };
            let task = deliver(Arc::clone(&self.shared), delivery.clone());
            self.in_flight.spawn(delivery, Step::Attempt, task);
        }
    }

    /// Handles the end of a task. After a panic, another task records the failure, because this
    /// may wait for the store. If that task panics too, the event is retried later.
    fn finish_step(&mut self, delivery: Delivery, step: Step, result: StepResult) {
        let result = match result {
            StepResult::Done(result) => result,
            StepResult::Panicked => {
                tracing::error!(
                    observer = &*self.name,
                    "Plugboard panicked while it delivered an event, which counts as a failed \
                     attempt; please report it"
                );
                if step == Step::Attempt {
                    let task = record_panic(Arc::clone(&self.shared), delivery.clone());
                    self.in_flight.spawn(delivery, Step::RecordPanic, task);
                    return;
                }
                Err(RetryReason::Failed)
            }
        };
        self.finish_delivery(delivery.pending, result);
    }

    fn finish_delivery(&mut self, mut pending: PendingDelivery, result: Result<(), RetryReason>) {
        let now = Instant::now();
        match result {
            Ok(()) => {
                self.window.ack(&pending);
                self.is_dirty = true;
            }
            Err(_) if self.shared.tombstones.is_erased(&pending.event) => {
                self.window.ack(&pending);
                self.is_dirty = true;
            }
            Err(RetryReason::Failed) => {
                pending.attempts += 1;
                self.window
                    .retry_at(&pending, now + retry_delay(&self.shared.config, pending.attempts));
                self.is_dirty = true;
            }
            Err(RetryReason::Unavailable) => {
                self.window.retry_at(&pending, now + UNAVAILABLE_RETRY_DELAY)
            }
            Err(RetryReason::CircuitOpen) => {
                self.next_delivery = now + UNAVAILABLE_RETRY_DELAY;
                self.window.retry_at(&pending, now + UNAVAILABLE_RETRY_DELAY);
            }
        }
    }

    /// Starts to save the checkpoint, if it has changed and the interval has passed.
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

    /// Returns the time of the next run of the loop if there is no notification.
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

    /// Waits for the deliveries in flight for `grace` at most, and saves the checkpoint.
    async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some((delivery, step, result))) =
            timeout_at(deadline, self.in_flight.next()).await
        {
            self.finish_step(delivery, step, result);
        }
        self.in_flight.abort().await;
        if let Some(saving) = self.pending_save.take() {
            _ = saving.await;
        }
        let checkpoint = self.checkpoint();
        if let Err(error) =
            self.shared.store.save_checkpoint(Arc::clone(&self.name), checkpoint).await
        {
            tracing::warn!(
                observer = &*self.name,
                %error,
                "cannot save the checkpoint; some events will be redelivered"
            );
        }
    }
}

/// Returns the delay before the next attempt: exponential backoff with jitter.
fn retry_delay(config: &EventsConfig, attempts: u32) -> Duration {
    let exponential =
        config.initial_backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    // 20 % of jitter, so that events that failed together are not retried together.
    exponential.min(config.max_backoff).mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Waits for the result of a request; indefinitely if there is no request.
async fn await_if_some<T>(pending: &mut Option<StoreFuture<T>>) -> Result<T, StoreError> {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}
