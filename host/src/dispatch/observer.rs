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

use super::attempt::{Told, Untold, tell};
use super::erase::Erasures;
use super::window::{Delivery, Window};
use crate::config::EventsConfig;
use crate::event::Kinds;
use crate::plugin::{Hook, Plugin};
use crate::registry::{Generation, Registry};
use crate::store::{Page, Pending, Progress, Seq, Store, StoreError, Stored};

/// Events that are read at once.
const PAGE: usize = 256;

/// How often progress is kept while there is some: after the end of the process,
/// what was done since then is told again.
const CHECKPOINT: Duration = Duration::from_millis(25);

/// Before the store is asked again that could not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Before an event is told for which there was no room, or whose plugin is set
/// aside.
const SHORT_REST: Duration = Duration::from_millis(100);

/// What all observers share.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) store: Arc<dyn Store>,
    pub(super) config: EventsConfig,
    /// Calls of which nothing is told.
    pub(super) erasures: Arc<Erasures>,
    /// Places for events among the guests.
    pub(super) places: Arc<Semaphore>,
    /// How many places one observer may have, so that none takes all.
    pub(super) share: AtomicUsize,
    /// Whether all shall come to its end.
    pub(super) stopping: watch::Receiver<bool>,
}

/// How far an observer is, for those who look after the journal.
pub(super) struct Done {
    /// Up to here, nothing need be kept for it.
    pub(super) up_to: watch::Receiver<Seq>,
    /// How many events wait for it, roughly.
    pub(super) backlog: Arc<AtomicU64>,
}

/// See the [module](self).
pub(super) struct Observer {
    name: Arc<str>,
    shared: Arc<Shared>,
    window: Window,
    /// Read before and not done, as long as it is not in the window.
    before: Vec<(Seq, u32)>,
    /// Read up to here.
    position: Seq,
    /// As it serves now.
    plugin: Option<Arc<Plugin>>,
    /// The version that was told last.
    version: Option<u64>,
    kinds: Kinds,
    seen: i64,
    running: JoinSet<Told>,
    reading: Option<Pending<Page>>,
    saving: Option<Pending<()>>,
    /// What nothing need be kept of, once that is saved.
    saved_up_to: Seq,
    /// Whether there is progress to keep.
    dirty: bool,
    next_save: Instant,
    /// Nothing is read before then, as the store could not be.
    read_after: Instant,
    /// Nothing is told before then, as the plugin is set aside.
    told_after: Instant,
    done: watch::Sender<Seq>,
    backlog: Arc<AtomicU64>,
}

impl Observer {
    /// An observer, that goes on from there.
    pub(super) fn new(name: Arc<str>, shared: Arc<Shared>, progress: &Progress) -> (Self, Done) {
        let first = progress.done();
        let (done, up_to) = watch::channel(first);
        let backlog = Arc::new(AtomicU64::new(0));
        let watched = Done { up_to, backlog: Arc::clone(&backlog) };
        let now = Instant::now();
        let observer = Self {
            name,
            shared,
            window: Window::default(),
            before: progress.undone.clone(),
            position: progress.position,
            plugin: None,
            version: None,
            kinds: progress.kinds,
            seen: progress.seen,
            running: JoinSet::new(),
            reading: None,
            saving: None,
            saved_up_to: first,
            dirty: false,
            next_save: now,
            read_after: now,
            told_after: now,
            done,
            backlog,
        };
        (observer, watched)
    }

    /// Works until the service stops; `grace` is for what is under way then.
    pub(super) async fn run(mut self, grace: Duration) {
        let mut last = self.shared.store.last();
        let mut generation = self.shared.registry.changes();
        let mut stopping = self.shared.stopping.clone();
        let mut erased = self.shared.erasures.changes();
        self.take_up().await;
        generation.mark_changed();
        erased.mark_changed();
        while !*stopping.borrow() {
            let last_place = *last.borrow_and_update();
            if generation.has_changed().unwrap_or(false) {
                let generation = Arc::clone(&generation.borrow_and_update());
                self.adopt(&generation);
            }
            if erased.has_changed().unwrap_or(false) {
                erased.mark_unchanged();
                self.drop_erased();
            }
            if let Some(plugin) = self.plugin.clone() {
                self.read(last_place);
                self.tell(&plugin);
            }
            let behind = u64::try_from(last_place - self.position).unwrap_or(0);
            self.backlog.store(behind + self.window.len() as u64, Relaxed);
            self.save();
            let wake = self.wake(last_place);
            tokio::select! {
                biased;
                _ = stopping.changed() => {}
                Some(told) = self.running.join_next() => self.told(told),
                page = pending(&mut self.reading) => self.have_read(page),
                saved = pending(&mut self.saving) => self.have_saved(saved),
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
        let plugin = generation.plugin(&self.name).filter(|plugin| plugin.has(Hook::Observer));
        self.plugin = plugin.cloned();
        let Some(plugin) = plugin else { return };
        self.kinds = plugin.kinds();
        if self.version.replace(plugin.id).is_some_and(|version| version != plugin.id) {
            self.window.afresh();
            self.told_after = Instant::now();
        }
    }

    /// Reads again what was read before and not done.
    async fn take_up(&mut self) {
        let mut stopping = self.shared.stopping.clone();
        let seqs: Vec<Seq> = self.before.iter().map(|(seq, _)| *seq).collect();
        let found = loop {
            if seqs.is_empty() || *stopping.borrow() {
                return;
            }
            match self.shared.store.find(seqs.clone()).await {
                Ok(found) => break found,
                Err(_) => {
                    tokio::select! {
                        _ = stopping.changed() => {}
                        () = tokio::time::sleep(STORE_PAUSE) => {}
                    }
                }
            }
        };
        let before = std::mem::take(&mut self.before);
        // What was erased meanwhile is not waited for.
        self.dirty |= found.len() < before.len();
        for event in found {
            // In order, as it was kept.
            let place = before.binary_search_by_key(&event.seq, |(seq, _)| *seq).ok();
            let attempts = place.and_then(|place| before.get(place));
            let attempts = attempts.map_or(0, |(_, attempts)| *attempts);
            self.window.push(Delivery { event, attempts });
        }
    }

    /// Asks for more, if there is more and room for it.
    fn read(&mut self, last: Seq) {
        let wanted = self.position < last && self.window.has_room();
        if self.reading.is_none() && wanted && Instant::now() >= self.read_after {
            self.reading = Some(self.shared.store.read(self.position, PAGE));
        }
    }

    fn have_read(&mut self, page: Result<Page, StoreError>) {
        self.reading = None;
        let Ok(page) = page else {
            self.read_after = Instant::now() + STORE_PAUSE;
            return;
        };
        let erasures = &self.shared.erasures;
        for event in page.events {
            if erasures.has(&event) {
                continue;
            }
            // If the plugin went while this was read, it is judged when it is told.
            if self.plugin.as_ref().is_none_or(|plugin| self.wants(plugin, &event)) {
                self.window.push(Delivery { event, attempts: 0 });
            }
        }
        self.position = self.position.max(page.reaches);
        self.dirty = true;
    }

    /// Lets go of what was erased.
    fn drop_erased(&mut self) {
        let erasures = &self.shared.erasures;
        self.dirty |= self.window.erase(|event| erasures.has(event));
    }

    /// Whether the plugin's settings ask for an event.
    fn wants(&self, plugin: &Plugin, event: &Stored) -> bool {
        match &event.only {
            Some(only) => *only == self.name,
            None => {
                plugin.kinds().contains(event.kind()) && plugin.settings().accept(&event.event.call)
            }
        }
    }

    /// How many deliveries there may be at a time.
    fn most(&self) -> usize {
        self.shared.config.concurrency.min(self.shared.share.load(Relaxed)).max(1)
    }

    /// Starts as many deliveries as there may be.
    fn tell(&mut self, plugin: &Arc<Plugin>) {
        let now = Instant::now();
        while now >= self.told_after && self.running.len() < self.most() {
            let Some(delivery) = self.window.next(now) else { return };
            // Another version may have asked for it.
            if !self.wants(plugin, &delivery.event) {
                self.window.done(&delivery);
                self.dirty = true;
                continue;
            }
            let shared = Arc::clone(&self.shared);
            self.running.spawn(tell(shared, Arc::clone(plugin), delivery));
        }
    }

    fn told(&mut self, told: Result<Told, tokio::task::JoinError>) {
        // A panic of ours would leave its event running for ever; the process ends
        // tasks only when it ends itself.
        let Ok(Told { mut delivery, result }) = told else {
            tracing::error!(
                observer = &*self.name,
                "the host panicked over an event, which waits until the next start; please report it"
            );
            return;
        };
        let now = Instant::now();
        match result {
            Ok(()) => {
                self.window.done(&delivery);
                self.dirty = true;
            }
            Err(_) if self.shared.erasures.has(&delivery.event) => {
                self.window.done(&delivery);
                self.dirty = true;
            }
            Err(Untold::Failed) => {
                delivery.attempts += 1;
                self.window.again(&delivery, now + backoff(&self.shared.config, delivery.attempts));
                self.dirty = true;
            }
            Err(Untold::NotNow) => self.window.again(&delivery, now + SHORT_REST),
            Err(Untold::SetAside) => {
                self.told_after = now + SHORT_REST;
                self.window.again(&delivery, now + SHORT_REST);
            }
        }
    }

    /// Keeps how far it is, if that changed, now and then.
    fn save(&mut self) {
        if self.dirty && self.saving.is_none() && Instant::now() >= self.next_save {
            self.dirty = false;
            self.next_save = Instant::now() + CHECKPOINT;
            let progress = self.progress();
            self.saved_up_to = progress.done();
            self.saving = Some(self.shared.store.save(Arc::clone(&self.name), progress));
        }
    }

    fn have_saved(&mut self, saved: Result<(), StoreError>) {
        self.saving = None;
        if saved.is_ok() {
            self.done.send_replace(self.saved_up_to);
        } else {
            self.dirty = true;
            self.next_save = Instant::now() + STORE_PAUSE;
        }
    }

    fn progress(&mut self) -> Progress {
        if self.plugin.is_some() {
            self.seen = crate::store::now();
        }
        Progress {
            position: self.position,
            undone: [&self.before[..], &self.window.undone()].concat(),
            kinds: self.kinds,
            seen: self.seen,
        }
    }

    /// When to look again though nothing happens.
    fn wake(&self, last: Seq) -> Instant {
        let serving = self.plugin.is_some();
        let tells = serving && self.running.len() < self.most();
        let tells = self.window.next_rested().filter(|_| tells);
        let tells = tells.map(|rested| rested.max(self.told_after));
        let saves = (self.dirty && self.saving.is_none()).then_some(self.next_save);
        let reads = serving && self.reading.is_none() && self.position < last;
        let reads = (reads && self.window.has_room()).then_some(self.read_after);
        let far = Instant::now() + Duration::from_secs(60);
        [tells, saves, reads].into_iter().flatten().min().unwrap_or(far)
    }

    /// Lets what is under way come to its end, and keeps how far it is.
    async fn finish(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        while let Ok(Some(told)) = tokio::time::timeout_at(deadline, self.running.join_next()).await
        {
            self.told(told);
        }
        self.running.shutdown().await;
        if let Some(saving) = self.saving.take() {
            _ = saving.await;
        }
        let progress = self.progress();
        if let Err(error) = self.shared.store.save(Arc::clone(&self.name), progress).await {
            tracing::warn!(
                observer = &*self.name,
                "its progress is not kept, and some events will come again: {error}"
            );
        }
    }
}

/// How long to wait after so many failures.
fn backoff(config: &EventsConfig, attempts: u32) -> Duration {
    let doubled = config.backoff.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    // Spread, so that what failed together does not come again together.
    doubled.min(config.max_backoff).mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// What comes of it, if something was asked for.
async fn pending<T>(asked: &mut Option<Pending<T>>) -> Result<T, StoreError> {
    match asked {
        Some(asked) => asked.await,
        None => std::future::pending().await,
    }
}
