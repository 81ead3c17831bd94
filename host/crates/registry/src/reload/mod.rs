//! Hot reload: one task that keeps the registry equal to the plugin folder.
//!
//! The task ([`Reloader`]) scans the folder
//!
//! * when the file system reported a change (`watch`) and the folder was quiet for
//!   `reload.debounce`, or kept changing for ten times as long,
//! * when the poll (`reload.poll_interval`) finds other sizes, times or inodes, and those stay for
//!   the debounce,
//! * at once, and without trusting sizes and times, on SIGHUP and `POST /reload`.
//!
//! In all three cases it runs the same [`Reconciler`]. A single task runs all reconciles, so
//! they do not overlap.

mod change;
mod folder;
mod reconcile;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

pub use self::change::PluginChange;
pub use self::folder::{PluginFolder, list_plugins};
pub use self::reconcile::{Reconciler, ReloadMetrics, ReloadReport, ScanMode};
use self::watch::FolderWatch;
use plugboard_config::ReloadConfig;
use plugboard_runtime::plugin::{FileFingerprints, PluginFiles};

/// Maximum wait of a reload for a folder that keeps changing, as a multiple of
/// `reload.debounce`.
const MAX_DEBOUNCE_FACTOR: u32 = 10;

/// Maximum number of reload requests that wait for the current reconcile.
const REQUEST_QUEUE: usize = 64;

/// The reason why a requested reload failed.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The folder could not be read; the serving generation stays.
    #[error("{0}")]
    Folder(String),
    /// The reload task has ended.
    #[error("the server is stopping")]
    Stopping,
}

type ReplySender = oneshot::Sender<Result<Arc<ReloadReport>, ReloadError>>;

/// The handle that requests reloads.
#[derive(Clone)]
pub struct ReloadHandle(mpsc::Sender<ReplySender>);

impl ReloadHandle {
    /// Scans the whole folder now and publishes its plugins. When the future resolves, new
    /// requests are served by them.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read.
    pub async fn reload(&self) -> Result<Arc<ReloadReport>, ReloadError> {
        let (reply_sender, report) = oneshot::channel();
        self.0.send(reply_sender).await.map_err(|_| ReloadError::Stopping)?;
        report.await.map_err(|_| ReloadError::Stopping)?
    }
}

/// Receives the report of each reload, for operators.
pub type ReloadListener = Box<dyn Fn(&ReloadReport) + Send + Sync>;

/// The task that reloads the plugin folder.
pub struct Reloader {
    reconciler: Reconciler,
    config: ReloadConfig,
    requests: mpsc::Receiver<ReplySender>,
    watch: FolderWatch,
    on_reload: ReloadListener,
    /// The last logged error about a folder that cannot be read.
    last_error: Option<String>,
}

/// A reload that waits for the folder to be quiet.
struct PendingReload {
    due_at: Instant,
    deadline: Instant,
    /// The fingerprints of the folder, if the poll found the change.
    snapshot: Option<Vec<(PluginFiles, FileFingerprints)>>,
}

impl Reloader {
    /// Creates the task for a folder, and the handle that requests reloads. Call
    /// [`Reloader::start`] before [`Reloader::run`].
    pub fn new(
        reconciler: Reconciler,
        config: ReloadConfig,
        on_reload: ReloadListener,
    ) -> (Self, ReloadHandle) {
        let (handle, requests) = mpsc::channel(REQUEST_QUEUE);
        let watch = FolderWatch::new(reconciler.folder().clone());
        let reloader = Self { reconciler, config, requests, watch, on_reload, last_error: None };
        (reloader, ReloadHandle(handle))
    }

    /// Publishes the first generation.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read.
    pub async fn start(&mut self) -> anyhow::Result<ReloadReport> {
        // The watch starts before the scan, so that no change in between is missed.
        self.arm_watch();
        let report = self.reconciler.reconcile(ScanMode::Full).await?;
        (self.on_reload)(&report);
        Ok(report)
    }

    /// Keeps the registry equal to the folder until `stop` is cancelled. A reload in progress
    /// is then abandoned. `hangup` is notified of SIGHUP.
    pub async fn run(mut self, hangup: Arc<Notify>, stop: CancellationToken) {
        stop.run_until_cancelled(self.follow_folder(&hangup)).await;
    }

    async fn follow_folder(&mut self, hangup: &Notify) {
        let hints = self.watch.hints();
        let poll_interval = self.config.poll_interval;
        let mut poll = interval_at(Instant::now() + poll_interval, poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pending: Option<PendingReload> = None;
        loop {
            let quiet_at = pending.as_ref().map(|pending| pending.due_at);
            tokio::select! {
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    pending = None;
                    self.answer_requests(request).await;
                }
                () = hangup.notified() => {
                    pending = None;
                    // `reconcile` has logged the error.
                    _ = self.reconcile(ScanMode::Full, "SIGHUP").await;
                }
                () = hints.notified() => {
                    let seen = pending.as_mut().and_then(|pending| pending.snapshot.take());
                    self.schedule(&mut pending, seen);
                }
                () = sleep_until(quiet_at.unwrap_or_else(Instant::now)), if quiet_at.is_some() => {
                    self.reload_if_quiet(&mut pending).await;
                }
                _ = poll.tick() => {
                    self.arm_watch();
                    if pending.is_none() {
                        let seen = self.reconciler.fingerprints().await.ok();
                        // The reconcile reports a folder that cannot be read.
                        if seen.as_ref().is_none_or(|seen| self.reconciler.has_changed(seen)) {
                            self.schedule(&mut pending, seen);
                        }
                    }
                }
            }
        }
    }

    /// Schedules a reload after the debounce, because the folder changed.
    fn schedule(
        &self,
        pending: &mut Option<PendingReload>,
        snapshot: Option<Vec<(PluginFiles, FileFingerprints)>>,
    ) {
        let now = Instant::now();
        let debounce = self.config.debounce;
        let deadline = pending
            .as_ref()
            .map_or(now + debounce * MAX_DEBOUNCE_FACTOR, |pending| pending.deadline);
        *pending =
            Some(PendingReload { due_at: (now + debounce).min(deadline), deadline, snapshot });
    }

    /// Reloads if the folder was quiet, according to notifications and fingerprints.
    async fn reload_if_quiet(&mut self, pending: &mut Option<PendingReload>) {
        let Some(PendingReload { deadline, snapshot, .. }) = pending else { return };
        if let Some(previous) = snapshot
            && Instant::now() < *deadline
        {
            let current = self.reconciler.fingerprints().await.ok();
            if current.as_ref() != Some(previous) {
                return self.schedule(pending, current);
            }
        }
        *pending = None;
        _ = self.reconcile(ScanMode::Quick, "change").await;
    }

    /// Answers all requests that have arrived with one reload.
    async fn answer_requests(&mut self, first: ReplySender) {
        let mut senders = vec![first];
        while let Ok(another) = self.requests.try_recv() {
            senders.push(another);
        }
        let result = self.reconcile(ScanMode::Full, "request").await;
        for sender in senders {
            let result =
                result.as_ref().map(Arc::clone).map_err(|error| ReloadError::Folder(error.clone()));
            // This fails if the requester has gone.
            _ = sender.send(result);
        }
    }

    async fn reconcile(
        &mut self,
        mode: ScanMode,
        cause: &'static str,
    ) -> Result<Arc<ReloadReport>, String> {
        self.arm_watch();
        let start = Instant::now();
        match self.reconciler.reconcile(mode).await {
            Ok(report) => {
                self.last_error = None;
                log_report(&report, cause, start.elapsed());
                (self.on_reload)(&report);
                Ok(Arc::new(report))
            }
            Err(error) => {
                let error = format!("{error:#}");
                // The error is logged once, not at every poll.
                if self.last_error.as_ref() != Some(&error) {
                    tracing::error!(cause, "reload failed, the serving plugins stay: {error}");
                    self.last_error = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    fn arm_watch(&mut self) {
        if self.config.watch {
            // This usually takes some microseconds, but longer on a network file system.
            tokio::task::block_in_place(|| self.watch.arm());
        }
    }
}

fn log_report(report: &ReloadReport, cause: &'static str, took: Duration) {
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
