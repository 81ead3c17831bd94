//! Reconciliation of the registry with the plugin folder.
//!
//! The reconciler compares digests of the component and of its settings. It reads the two files
//! together, and again if they changed meanwhile. It loads a changed plugin while the previous
//! version serves. A version that cannot be loaded leaves the last good one serving. Its digest
//! is recorded, so that it is neither loaded nor reported again. Loading is retried on SIGHUP
//! and `POST /reload`, and after a failure for lack of resources.
//!
//! One [`Generation`] is published for all changes of a scan.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::change::{ChangeKind, PluginChange};
use super::folder::{PluginFolder, list_plugins};
use crate::{Generation, PluginEntry, Registry};
use plugboard_core::span::in_span;
use plugboard_runtime::plugin::error::{LoadError, Stage};
use plugboard_runtime::plugin::spans::load_span;
use plugboard_runtime::plugin::stats::LastError;
use plugboard_runtime::plugin::{
    FileFingerprints, LoadOutcome, Loader, Plugin, PluginFiles, PluginVersion,
};

/// The thoroughness of a folder scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanMode {
    /// Files with unchanged times and sizes are not read.
    Quick,
    /// Every file is read, and versions that failed are loaded again.
    Full,
}

/// The result of a reload.
#[derive(Debug, Default, Serialize)]
pub struct ReloadReport {
    /// The number of the serving generation.
    pub generation: u64,
    /// Plugins that serve now and did not serve before.
    pub added: Vec<String>,
    /// Plugins of which another version serves now.
    pub updated: Vec<String>,
    /// Plugins that no longer serve.
    pub removed: Vec<String>,
    /// Plugins whose files could not be loaded.
    pub failed: Vec<FailedPlugin>,
    /// The number of plugins that serve as before.
    pub unchanged: usize,
    /// The changes of plugins, for the history.
    #[serde(skip)]
    pub changes: Vec<PluginChange>,
}

/// A plugin whose files could not be loaded.
#[derive(Debug, Serialize)]
pub struct FailedPlugin {
    /// The name of the plugin.
    pub name: String,
    /// True if an earlier version serves.
    pub serving: bool,
    /// The reason why the version in the folder does not serve.
    pub error: LastError,
}

/// Counters of reloads, for the metrics.
pub trait ReloadMetrics: Send + Sync {
    /// Records that the folder was reconciled, and whether a generation was published.
    fn record_reconcile(&self, published: bool);
    /// Records that a version could not be loaded.
    fn record_load_failure(&self, stage: Stage);
    /// Records that the folder could not be read.
    fn record_unreadable_folder(&self);
}

/// The reconciler of a registry and a folder, with the state of each plugin in the folder.
pub struct Reconciler {
    loader: Loader,
    folder: PathBuf,
    registry: Arc<Registry>,
    metrics: Arc<dyn ReloadMetrics>,
    generation_number: u64,
    states: BTreeMap<PluginFiles, ReconciledPlugin>,
    orphan_settings: Vec<PathBuf>,
}

/// The state of one plugin in the folder.
#[derive(Clone, Default)]
struct ReconciledPlugin {
    /// Fingerprints of the files at the last read, if they are stable.
    fingerprints: Option<FileFingerprints>,
    /// The version at the last read, if the files could be read.
    version: Option<PluginVersion>,
    serving: Option<Arc<Plugin>>,
    disabled: bool,
    error: Option<LastError>,
    /// True if loading the same files may succeed later.
    should_retry: bool,
}

impl Reconciler {
    /// Creates a reconciler that has not scanned its folder yet.
    pub fn new(
        loader: Loader,
        folder: PathBuf,
        registry: Arc<Registry>,
        metrics: Arc<dyn ReloadMetrics>,
    ) -> Self {
        let (states, orphans) = (BTreeMap::new(), Vec::new());
        Self {
            loader,
            folder,
            registry,
            metrics,
            generation_number: 0,
            states,
            orphan_settings: orphans,
        }
    }

    /// Returns the plugin folder.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Returns whether the fingerprints from [`Reconciler::fingerprints`] differ from those of
    /// the last reconcile.
    pub fn has_changed(&self, current: &[(PluginFiles, FileFingerprints)]) -> bool {
        current.len() != self.states.len()
            || current.iter().zip(&self.states).any(
                |((sources, fingerprints), (known_sources, state))| {
                    sources != known_sources
                        || state.should_retry
                        || state.fingerprints != Some(*fingerprints)
                },
            )
    }

    /// Returns the fingerprints of every plugin in the folder.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read.
    pub async fn fingerprints(&self) -> anyhow::Result<Vec<(PluginFiles, FileFingerprints)>> {
        let folder = self.folder.clone();
        run_blocking(move || {
            // The plugins are sorted by file name, as the states are.
            let plugins = list_plugins(&folder)?.plugins.into_iter();
            let fingerprinted = plugins.map(|sources| {
                let fingerprints = sources.fingerprints();
                (sources, fingerprints)
            });
            Ok(fingerprinted.collect())
        })
        .await
    }

    /// Updates the registry from the folder.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read; the registry then does not change.
    pub async fn reconcile(&mut self, mode: ScanMode) -> anyhow::Result<ReloadReport> {
        let folder = self.folder.clone();
        let listing = run_blocking(move || list_plugins(&folder)).await;
        let PluginFolder { plugins, orphan_settings: orphans } =
            listing.inspect_err(|_| self.metrics.record_unreadable_folder())?;
        let mut report = ReloadReport::default();
        let mut current = BTreeMap::new();
        for sources in plugins {
            let previous = self.states.get(&sources).cloned().unwrap_or_default();
            let state = self.refresh_plugin(&sources, &previous, mode).await;
            report.record_plugin(&sources, &previous, &state);
            current.insert(sources, state);
        }
        for (sources, previous) in &self.states {
            if current.contains_key(sources) {
                continue;
            }
            report.changes.push(previous.change(sources.display_name(), ChangeKind::Removed));
            if previous.serving.is_some() {
                report.removed.push(sources.display_name());
            }
        }
        let had_plugins = self.states.values().any(|state| state.serving.is_some());
        let has_plugins = current.values().any(|state| state.serving.is_some());
        for orphan in orphans.iter().filter(|orphan| !self.orphan_settings.contains(orphan)) {
            tracing::warn!(file = ?orphan, "settings without a plugin of that name");
        }
        let changes =
            !(report.added.is_empty() && report.updated.is_empty() && report.removed.is_empty())
                || self.generation_number == 0;
        let visible_states = |states: &BTreeMap<PluginFiles, ReconciledPlugin>| -> Vec<_> {
            states.iter().map(|(sources, state)| (sources.clone(), state.visible_state())).collect()
        };
        if changes
            || orphans != self.orphan_settings
            || visible_states(&current) != visible_states(&self.states)
        {
            self.publish(self.generation_number + u64::from(changes), &current, &orphans).await?;
        }
        self.generation_number += u64::from(changes);
        (self.states, self.orphan_settings) = (current, orphans);
        self.metrics.record_reconcile(changes);
        report.generation = self.generation_number;
        if had_plugins && !has_plugins {
            tracing::error!(
                folder = %self.folder.display(),
                "the last plugin was removed: every call gets the fallback"
            );
        }
        Ok(report)
    }

    /// Reads one plugin, and loads it if it changed.
    async fn refresh_plugin(
        &self,
        sources: &PluginFiles,
        previous: &ReconciledPlugin,
        mode: ScanMode,
    ) -> ReconciledPlugin {
        let must_read =
            mode == ScanMode::Full || previous.should_retry || previous.fingerprints.is_none();
        if !must_read {
            let stamped = sources.clone();
            let fingerprints = run_blocking(move || Ok(stamped.fingerprints())).await.ok();
            if fingerprints == previous.fingerprints {
                return previous.clone();
            }
        }
        let read = sources.clone();
        let files = spawn_blocking(move || read.read()).await;
        let files = match files.unwrap_or(Err(LoadError::HostPanicked)) {
            Ok(files) => files,
            Err(error) => return self.failed_state(sources, previous, None, None, &error),
        };
        let (fingerprints, version) = (files.stable_fingerprints(), files.version);
        let is_same_version = previous.version == Some(version);
        if is_same_version
            && !previous.should_retry
            && (previous.error.is_none() || mode == ScanMode::Quick)
        {
            return ReconciledPlugin { fingerprints, ..previous.clone() };
        }
        // The files are those of the serving version again, so the error is outdated.
        if previous.serving.is_some() && previous.serving_version() == Some(version) {
            return ReconciledPlugin {
                fingerprints,
                version: Some(version),
                error: None,
                should_retry: false,
                ..previous.clone()
            };
        }
        let load = self.loader.load(sources, files, previous.serving.as_deref());
        let span = load_span(&sources.display_name());
        match in_span(span, LoadError::label, load).await {
            Ok(loaded) => {
                let serving = match loaded {
                    LoadOutcome::Plugin(plugin) => Some(plugin),
                    LoadOutcome::Disabled => None,
                };
                let disabled = serving.is_none();
                ReconciledPlugin {
                    fingerprints,
                    version: Some(version),
                    serving,
                    disabled,
                    error: None,
                    should_retry: false,
                }
            }
            Err(error) => self.failed_state(sources, previous, fingerprints, Some(version), &error),
        }
    }

    /// Returns the state of a plugin whose files could not be loaded.
    fn failed_state(
        &self,
        sources: &PluginFiles,
        previous: &ReconciledPlugin,
        fingerprints: Option<FileFingerprints>,
        version: Option<PluginVersion>,
        error: &LoadError,
    ) -> ReconciledPlugin {
        let digest = version.map(|version| version.file.to_string());
        let message = error.to_string();
        // The error is logged once, not at every scan of the same files.
        let is_new = previous.version != version
            || previous.error.as_ref().is_none_or(|old| old.message != message);
        if is_new {
            self.metrics.record_load_failure(error.stage());
            tracing::error!(
                plugin = ?sources.display_name(),
                error = error.label(),
                stage = error.stage().name(),
                serving = previous.serving.is_some(),
                "cannot load the plugin: {message}"
            );
        }
        let last_error = LastError::in_load(error, digest);
        ReconciledPlugin {
            fingerprints,
            version,
            error: Some(previous.error.clone().filter(|_| !is_new).unwrap_or(last_error)),
            should_retry: error.is_transient(),
            ..previous.clone()
        }
    }

    async fn publish(
        &self,
        number: u64,
        states: &BTreeMap<PluginFiles, ReconciledPlugin>,
        orphans: &[PathBuf],
    ) -> anyhow::Result<()> {
        let entries = states.iter().map(|(sources, state)| PluginEntry {
            name: sources.display_name(),
            file: sources.file.clone(),
            plugin: state.serving.clone(),
            disabled: state.disabled,
            error: state.error.clone(),
        });
        let (entries, orphans) = (entries.collect(), orphans.to_vec());
        // Building the index of a thousand plugins takes milliseconds.
        let generation = run_blocking(move || Ok(Generation::new(number, entries, orphans)));
        self.registry.publish(generation.await?);
        Ok(())
    }
}

impl ReconciledPlugin {
    fn serving_version(&self) -> Option<PluginVersion> {
        self.serving.as_ref().map(|plugin| plugin.version())
    }

    /// Returns the change of this kind, with the state after it.
    fn change(&self, plugin: String, kind: ChangeKind) -> PluginChange {
        let serving = self.serving.as_ref().filter(|_| kind != ChangeKind::Removed);
        let version = serving.map(|plugin| plugin.digest().to_string());
        let error = self.error.as_ref().filter(|_| kind == ChangeKind::Broken);
        PluginChange { plugin, kind, version, error: error.map(|error| error.message.clone()) }
    }

    /// Returns the kind of change since the previous state, if there is one.
    fn change_since(&self, previous: &Self) -> Option<ChangeKind> {
        let (_, was_disabled, old_error) = previous.visible_state();
        let (_, is_disabled, error) = self.visible_state();
        if error.is_some() {
            return (error != old_error).then_some(ChangeKind::Broken);
        }
        match (previous.serving.is_some(), self.serving.is_some()) {
            _ if is_disabled => (!was_disabled).then_some(ChangeKind::Disabled),
            (_, true) if old_error.is_some() => Some(ChangeKind::Fixed),
            (false, true) if was_disabled => Some(ChangeKind::Enabled),
            (false, true) => Some(ChangeKind::Added),
            (true, true) => {
                (self.visible_state() != previous.visible_state()).then_some(ChangeKind::Replaced)
            }
            (_, false) => None,
        }
    }

    /// Returns the part of the state that `/plugins` shows.
    fn visible_state(&self) -> (Option<u64>, bool, Option<jiff::Timestamp>) {
        let serving = self.serving.as_ref().map(|plugin| plugin.id());
        (serving, self.disabled, self.error.as_ref().map(|error| error.at))
    }
}

impl ReloadReport {
    fn record_plugin(
        &mut self,
        sources: &PluginFiles,
        previous: &ReconciledPlugin,
        current: &ReconciledPlugin,
    ) {
        let name = sources.display_name();
        self.changes
            .extend(current.change_since(previous).map(|kind| current.change(name.clone(), kind)));
        if let Some(error) = &current.error {
            let serving = current.serving.is_some();
            self.failed.push(FailedPlugin { name: name.clone(), serving, error: error.clone() });
        }
        match (&previous.serving, &current.serving) {
            (None, Some(_)) => self.added.push(name),
            (Some(_), None) => self.removed.push(name),
            (Some(before), Some(now)) if before.id() != now.id() => self.updated.push(name),
            (Some(_), Some(_)) => self.unchanged += 1,
            (None, None) => {}
        }
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work).await.context("Plugboard panicked; please report it")?
}
