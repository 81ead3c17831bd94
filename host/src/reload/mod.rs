//! Hot reload: one task that keeps the registry in line with the plugin folder.
//!
//! It looks when the system tells of a change and the folder has been quiet for
//! a moment, when a slow poll finds one, on SIGHUP, and on `POST /reload`; always
//! by the same reconcile, one at a time.

mod change;
mod folder;
mod reconcile;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

pub use self::change::Change;
pub use self::folder::{Listing, list};
pub use self::reconcile::{Look, Reconciler, Report, Witness};
use self::watch::Watch;
use crate::config::ReloadConfig;
use crate::live::Live;
use crate::plugin::{Sources, Stamps};

/// How many times the debounce a folder that is never quiet is waited for.
const MAX_WAIT: u32 = 10;

/// Requests that may wait for the reconcile under way to end.
const REQUESTS: usize = 64;

/// Why a reload that was asked for was not done.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The folder could not be read; what served serves on.
    #[error("{0}")]
    Folder(String),
    /// Nobody is there to do it.
    #[error("the service is stopping")]
    Stopping,
}

type Answer = oneshot::Sender<Result<Arc<Report>, ReloadError>>;

/// Asks for reloads.
#[derive(Clone)]
pub struct ReloadHandle(mpsc::Sender<Answer>);

impl ReloadHandle {
    /// Looks at the folder now, thoroughly, and publishes what is in it. When this
    /// resolves, calls that start are answered by it.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub async fn reload(&self) -> Result<Arc<Report>, ReloadError> {
        let (answer, report) = oneshot::channel();
        self.0.send(answer).await.map_err(|_| ReloadError::Stopping)?;
        report.await.map_err(|_| ReloadError::Stopping)?
    }
}

/// The task.
pub struct Reloader {
    reconciler: Reconciler,
    config: ReloadConfig,
    requests: mpsc::Receiver<Answer>,
    watch: Watch,
    /// Where operators see what changed.
    live: Live,
    /// What was said last about a folder that cannot be read.
    complaint: Option<String>,
}

/// Since when something is about to be looked at.
struct Pending {
    quiet_at: Instant,
    latest: Instant,
    /// What the folder looked like, when nobody tells of changes.
    seen: Option<Vec<(Sources, Stamps)>>,
}

impl Reloader {
    /// A task for a folder, and the way to ask it. [`Reloader::start`] it before
    /// it runs.
    pub fn new(reconciler: Reconciler, config: ReloadConfig, live: Live) -> (Self, ReloadHandle) {
        let (handle, requests) = mpsc::channel(REQUESTS);
        let watch = Watch::new(reconciler.folder().clone());
        let reloader = Self { reconciler, config, requests, watch, live, complaint: None };
        (reloader, ReloadHandle(handle))
    }

    /// Publishes the first generation.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub async fn start(&mut self) -> anyhow::Result<Report> {
        // Before looking: what changes in between is told.
        self.arm();
        let report = self.reconciler.reconcile(Look::Thorough).await?;
        self.live.reloaded(&report);
        Ok(report)
    }

    /// Keeps up with the folder for ever. `hangup` is told of SIGHUP.
    pub async fn run(mut self, hangup: Arc<Notify>) {
        let hints = self.watch.hints();
        let poll = self.config.poll;
        let mut poll = interval_at(Instant::now() + poll, poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<Pending> = None;
        loop {
            let quiet_at = pending.as_ref().map(|pending| pending.quiet_at);
            tokio::select! {
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    pending = None;
                    self.answer(request).await;
                }
                () = hangup.notified() => {
                    pending = None;
                    // What went wrong was logged.
                    _ = self.reconcile(Look::Thorough, "SIGHUP").await;
                }
                () = hints.notified() => {
                    let seen = pending.as_mut().and_then(|pending| pending.seen.take());
                    self.put_off(&mut pending, seen);
                }
                () = sleep_until(quiet_at.unwrap_or_else(Instant::now)), if quiet_at.is_some() => {
                    self.settle(&mut pending).await;
                }
                _ = poll.tick() => {
                    self.arm();
                    if pending.is_none() {
                        let seen = self.reconciler.stamps().await.ok();
                        // A folder that cannot be read is told of by reconciling.
                        if seen.as_ref().is_none_or(|seen| self.reconciler.looks_changed(seen)) {
                            self.put_off(&mut pending, seen);
                        }
                    }
                }
            }
        }
    }

    /// Something changed just now: waits until nothing does any more.
    fn put_off(&self, pending: &mut Option<Pending>, seen: Option<Vec<(Sources, Stamps)>>) {
        let now = Instant::now();
        let debounce = self.config.debounce;
        let latest = pending.as_ref().map_or(now + debounce * MAX_WAIT, |pending| pending.latest);
        *pending = Some(Pending { quiet_at: (now + debounce).min(latest), latest, seen });
    }

    /// The folder has been quiet for a while, as far as one was told.
    async fn settle(&mut self, pending: &mut Option<Pending>) {
        let Some(Pending { latest, seen, .. }) = pending else { return };
        if let Some(before) = seen
            && Instant::now() < *latest
        {
            let now = self.reconciler.stamps().await.ok();
            if now.as_ref() != Some(before) {
                return self.put_off(pending, now);
            }
        }
        *pending = None;
        _ = self.reconcile(Look::Glance, "change").await;
    }

    /// Answers everybody who asked until now by one look.
    async fn answer(&mut self, first: Answer) {
        let mut asked = vec![first];
        while let Ok(another) = self.requests.try_recv() {
            asked.push(another);
        }
        let done = self.reconcile(Look::Thorough, "request").await;
        for answer in asked {
            let done =
                done.as_ref().map(Arc::clone).map_err(|error| ReloadError::Folder(error.clone()));
            // Whoever asked may have gone.
            _ = answer.send(done);
        }
    }

    async fn reconcile(&mut self, look: Look, cause: &'static str) -> Result<Arc<Report>, String> {
        self.arm();
        let start = Instant::now();
        match self.reconciler.reconcile(look).await {
            Ok(report) => {
                self.complaint = None;
                log(&report, cause, start.elapsed());
                self.live.reloaded(&report);
                Ok(Arc::new(report))
            }
            Err(error) => {
                let error = format!("{error:#}");
                // Said once, and not again by every poll.
                if self.complaint.as_ref() != Some(&error) {
                    tracing::error!(cause, "nothing was reloaded, what served serves on: {error}");
                    self.complaint = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    fn arm(&mut self) {
        if self.config.watch {
            // Usually some microseconds; who knows, on a network file system.
            tokio::task::block_in_place(|| self.watch.arm());
        }
    }
}

fn log(report: &Report, cause: &'static str, took: Duration) {
    let names = |names: &[String]| names.join(", ");
    let changed = report.added.len() + report.updated.len() + report.removed.len();
    if changed == 0 {
        tracing::debug!(cause, generation = report.generation, "nothing to reload");
        return;
    }
    tracing::info!(
        cause,
        generation = report.generation,
        added = ?names(&report.added),
        updated = ?names(&report.updated),
        removed = ?names(&report.removed),
        failed = report.failed.len(),
        unchanged = report.unchanged,
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "reloaded"
    );
}
