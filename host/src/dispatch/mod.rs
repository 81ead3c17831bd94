//! Telling observers what happened: a task for each, which reads the journal on its
//! own, so that one that is slow or fails delays nobody but itself; and the upkeep
//! of the journal, which knows how far all of them are.

mod attempt;
mod erase;
mod observer;
mod window;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::erase::Erasures;
pub use self::erase::Held;
use self::observer::{Done, Observer, Shared};
use crate::config::{EventsConfig, JournalConfig};
use crate::event::Kinds;
use crate::journal::Interest;
use crate::plugin::Hook;
use crate::registry::{Generation, Registry};
use crate::store::erase::CallName;
use crate::store::{Figures, Progress, Seq, Store, UnixMs, Upkeep, ago, now};

/// How often the journal is looked after.
const UPKEEP: Duration = Duration::from_secs(2);

/// How long after a start an observer without a file is waited for, at least.
const GRACE: Duration = Duration::from_secs(5 * 60);

/// How often the store is asked at start, when it cannot be used.
const AGAIN: Duration = Duration::from_secs(1);

/// Observers at work. Ends with [`Dispatcher::stop`].
pub struct Dispatcher {
    work: Mutex<Option<JoinHandle<()>>>,
    stop: watch::Sender<bool>,
    adopted: watch::Receiver<u64>,
    figures: Arc<Mutex<Figures>>,
    backlogs: Backlogs,
    erasures: Arc<Erasures>,
}

/// How many events wait for each observer.
type Backlogs = Arc<Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>>;

/// What a dispatcher works with.
pub struct Parts {
    /// The plugins.
    pub registry: Arc<Registry>,
    /// What is kept.
    pub store: Arc<dyn Store>,
    /// Told which events somebody wants.
    pub interest: Arc<Interest>,
}

impl Dispatcher {
    /// Starts an observer for every plugin that wants events and those that are
    /// known from before; `places` of their guests may run at the same time. What is
    /// under way at the end has `grace`.
    pub fn start(
        parts: Parts,
        events: EventsConfig,
        journal: JournalConfig,
        places: usize,
        grace: Duration,
    ) -> Self {
        let Parts { registry, store, interest } = parts;
        let (stop, stopping) = watch::channel(false);
        let (adopting, adopted) = watch::channel(0);
        let figures = Arc::new(Mutex::new(Figures::default()));
        let erasures = Arc::new(Erasures::default());
        let shared = Arc::new(Shared {
            registry,
            store,
            erasures: Arc::clone(&erasures),
            config: events,
            places: Arc::new(Semaphore::new(places)),
            share: AtomicUsize::new(places),
            stopping,
        });
        let backlogs = Backlogs::default();
        let supervisor = Supervisor {
            shared,
            journal,
            interest,
            grace,
            places,
            known: BTreeMap::new(),
            adopted: adopting,
            figures: Arc::clone(&figures),
            backlogs: Arc::clone(&backlogs),
        };
        let work = Mutex::new(Some(tokio::spawn(supervisor.run())));
        Self { work, stop, adopted, figures, backlogs, erasures }
    }

    /// Waits until this generation's observers are told what comes from now on.
    /// Whether they are: not while the store cannot be used.
    pub async fn adopted(&self, generation: u64, patience: Duration) -> bool {
        let mut adopted = self.adopted.clone();
        let deadline = tokio::time::Instant::now() + patience;
        let waited = timeout_at(deadline, adopted.wait_for(|number| *number >= generation)).await;
        matches!(waited, Ok(Ok(_)))
    }

    /// How much is kept, as far as it was looked at.
    pub fn figures(&self) -> Figures {
        *self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many events wait for each observer, roughly.
    pub fn backlogs(&self) -> Vec<(Arc<str>, u64)> {
        let backlogs = self.backlogs.lock().unwrap_or_else(PoisonError::into_inner);
        backlogs.iter().map(|(name, count)| (Arc::clone(name), count.load(Relaxed))).collect()
    }

    /// Has no observer told of a call until it is said what of it is erased, and of
    /// that never again. What is under way may come to its end.
    pub fn hold(&self, call: CallName) -> Held {
        self.erasures.hold(call)
    }

    /// Lets what is under way come to its end; the rest stays in the journal.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            _ = work.await;
        }
    }
}

/// Sees to it that every observer has its task.
struct Supervisor {
    shared: Arc<Shared>,
    journal: JournalConfig,
    interest: Arc<Interest>,
    grace: Duration,
    places: usize,
    known: BTreeMap<String, Known>,
    adopted: watch::Sender<u64>,
    figures: Arc<Mutex<Figures>>,
    backlogs: Backlogs,
}

/// An observer with its task.
struct Known {
    /// What it wanted last.
    kinds: Kinds,
    seen: UnixMs,
    done: Done,
    work: JoinHandle<()>,
}

impl Supervisor {
    async fn run(mut self) {
        let mut stopping = self.shared.stopping.clone();
        let mut changes = self.shared.registry.changes();
        let mut upkeep = tokio::time::interval(UPKEEP);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Until the store tells which observers there are, anybody may want anything.
        self.interest.set(Kinds::all(), true);
        let mut resumed = false;
        while !*stopping.borrow() {
            if !resumed {
                resumed = self.resume().await;
            }
            if resumed {
                let generation = Arc::clone(&changes.borrow_and_update());
                let last = *self.shared.store.last().borrow();
                // What is missing is tried again with the upkeep.
                _ = self.adopt(&generation, last).await;
            }
            let again = tokio::time::sleep(AGAIN);
            tokio::select! {
                _ = stopping.changed() => {}
                _ = changes.changed(), if resumed => {}
                _ = upkeep.tick(), if resumed => self.tidy(&changes).await,
                () = again, if !resumed => {}
            }
        }
        for (_, Known { work, .. }) in self.known {
            _ = work.await;
        }
    }

    /// Goes on with the observers of the last run. Whether the store told of them.
    async fn resume(&mut self) -> bool {
        let Ok(observers) = self.shared.store.observers().await else { return false };
        for (name, progress) in observers.known {
            if !self.known.contains_key(&name) {
                // Nobody could see it while we were not here, and its file may just be
                // replaced.
                let keep = self.journal.keep;
                let seen = progress.seen.max(ago(keep.saturating_sub(keep.min(GRACE))));
                self.start(name, Progress { seen, ..progress });
            }
        }
        // What was accepted while the store did not answer is for the observers
        // that there are now.
        let generation = self.shared.registry.current();
        self.adopt(&generation, observers.last_before).await
    }

    fn start(&mut self, name: String, progress: Progress) {
        let shared = Arc::clone(&self.shared);
        let name_for_all = Arc::<str>::from(name.as_str());
        let (observer, done) = Observer::new(Arc::clone(&name_for_all), shared, &progress);
        let Progress { kinds, seen, .. } = progress;
        self.backlogs().insert(name_for_all, Arc::clone(&done.backlog));
        let work = tokio::spawn(observer.run(self.grace));
        self.known.insert(name, Known { kinds, seen, done, work });
        self.share_places();
    }

    fn backlogs(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<AtomicU64>>> {
        self.backlogs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets no observer take all places.
    fn share_places(&self) {
        let share = self.places / self.known.len().max(1);
        self.shared.share.store(share.max(1), Relaxed);
    }

    /// Ends an observer, and forgets how far it was.
    async fn forget(&mut self, name: &str, why: &'static str) {
        let Some(known) = self.known.remove(name) else { return };
        known.work.abort();
        _ = known.work.await;
        let events = known.done.backlog.load(Relaxed);
        tracing::warn!(observer = name, events, why, "an observer is forgotten");
        self.backlogs().remove(name);
        self.share_places();
        if let Err(error) = self.shared.store.forget(name.to_owned()).await {
            tracing::warn!(observer = name, "it is remembered until the next start: {error}");
        }
    }

    /// Takes up the observers of a generation. One that was never there is told
    /// what comes after `last`. Whether all are known to the store, so that a restart
    /// goes on with them.
    async fn adopt(&mut self, generation: &Generation, last: Seq) -> bool {
        let now = now();
        for plugin in generation.plugins().filter(|plugin| plugin.has(Hook::Observer)) {
            if !self.known.contains_key(&**plugin.name()) {
                let (position, kinds) = (last, plugin.kinds());
                let progress = Progress { position, undone: Vec::new(), kinds, seen: now };
                let name = Arc::clone(plugin.name());
                if self.shared.store.save(name, progress.clone()).await.is_err() {
                    return false;
                }
                self.start(plugin.name().to_string(), progress);
            }
        }
        let turned_away = generation.plugins().filter(|plugin| !plugin.has(Hook::Observer));
        let turned_away: Vec<String> = turned_away
            .map(|plugin| plugin.name().to_string())
            .filter(|name| self.known.contains_key(name))
            .collect();
        for name in turned_away {
            self.forget(&name, "its plugin observes no more").await;
        }
        let mut wanted = generation.kinds();
        for (name, known) in &mut self.known {
            match generation.plugin(name) {
                Some(plugin) => {
                    known.kinds = plugin.kinds();
                    known.seen = now;
                }
                // Broken or switched off, it is waited for.
                None if generation.has_file(name) => known.seen = now,
                None => {}
            }
            wanted = wanted.union(known.kinds);
        }
        self.interest.set(wanted, generation.wants_calls());
        self.adopted.send_replace(generation.number);
        true
    }

    /// Forgets observers that are gone, and removes what need not be kept.
    async fn tidy(&mut self, changes: &watch::Receiver<Arc<Generation>>) {
        let generation = self.shared.registry.current();
        let last = *self.shared.store.last().borrow();
        _ = self.adopt(&generation, last).await;
        let keep_since = ago(self.journal.keep);
        let gone: Vec<String> = self
            .known
            .iter()
            .filter(|(name, known)| known.seen < keep_since && !generation.has_file(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            self.forget(&name, "its plugin is gone for longer than journal.keep").await;
        }
        let last = *self.shared.store.last().borrow();
        let up_to = |known: &Known| *known.done.up_to.borrow();
        let behind = self.known.iter().min_by_key(|(_, known)| up_to(known));
        let done = behind.map_or(last, |(_, known)| up_to(known));
        let full = self.figures.lock().unwrap_or_else(PoisonError::into_inner).bytes
            > self.journal.max_size as u64;
        if full && let Some((name, known)) = behind {
            let events = known.done.backlog.load(Relaxed);
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
        let upkeep = Upkeep {
            done,
            // Room is worth more than the memory of what is done.
            keep_since: if full { UnixMs::MAX } else { keep_since },
            expire_before: ago(self.journal.max_age),
            max_size: self.journal.max_size as u64,
        };
        loop {
            let Ok(figures) = self.shared.store.tidy(upkeep.clone()).await else { return };
            if figures.expired > 0 {
                tracing::error!(
                    events = figures.expired,
                    "events waited for longer than journal.max_age, and are given up"
                );
            }
            let mut known = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
            let expired = known.expired + figures.expired;
            *known = Figures { expired, ..figures };
            drop(known);
            // New observers do not wait for it; the rest comes with the next look.
            let changed = changes.has_changed().unwrap_or(true);
            if !figures.more || changed || *self.shared.stopping.borrow() {
                return;
            }
        }
    }
}
