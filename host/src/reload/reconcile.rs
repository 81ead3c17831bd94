//! Bringing the registry in line with the folder: what changed, by digest, is
//! loaded; if anything did, a new generation is published. All or nothing for
//! each plugin: a version that cannot be loaded leaves the last good one serving.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::change::{Change, Changed};
use super::folder::{Listing, list};
use crate::plugin::error::{PluginError, Stage};
use crate::plugin::stats::{LastError, Stats};
use crate::plugin::{Loaded, Loader, Plugin, Sources, Stamps, Version};
use crate::registry::{Entry, Generation, Registry};
use crate::traces::spans;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Files whose times and sizes are as before are not read.
    Glance,
    /// Every file is read, and what failed before is tried again.
    Thorough,
}

/// What changed.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The generation that serves now.
    pub generation: u64,
    /// Plugins that serve now and did not before.
    pub added: Vec<String>,
    /// Plugins of which another version serves now.
    pub updated: Vec<String>,
    /// Plugins that served and do not any more.
    pub removed: Vec<String>,
    /// Plugins whose files do not serve as they are now.
    pub failed: Vec<Failed>,
    /// Plugins that serve as before.
    pub unchanged: usize,
    /// What became of each plugin, for the history: news only.
    #[serde(skip)]
    pub changes: Vec<Change>,
}

/// A plugin whose files do not serve as they are now.
#[derive(Debug, Serialize)]
pub struct Failed {
    /// Its name.
    pub name: String,
    /// Whether an earlier version serves.
    pub serving: bool,
    /// Why not this one.
    pub error: LastError,
}

/// Counts what reconciling did, for the metrics.
pub trait Witness: Send + Sync {
    /// The folder was looked at: whether that led to another generation.
    fn reconciled(&self, published: bool);
    /// A version could not be loaded.
    fn load_failed(&self, stage: Stage);
    /// The folder could not be read.
    fn unreadable(&self);
}

/// What is known of the folder, and the way from there to what is in it now.
pub struct Reconciler {
    loader: Loader,
    folder: PathBuf,
    registry: Arc<Registry>,
    witness: Arc<dyn Witness>,
    number: u64,
    known: BTreeMap<Sources, Known>,
    orphans: Vec<PathBuf>,
}

/// What is known of a plugin.
#[derive(Clone, Default)]
struct Known {
    /// Of the files as they were read last, if that tells anything.
    stamps: Option<Stamps>,
    /// Of the files as they were read last, if they could be.
    version: Option<Version>,
    serving: Option<Arc<Plugin>>,
    disabled: bool,
    error: Option<LastError>,
    /// Whether the same files may load another time.
    try_again: bool,
}

impl Reconciler {
    /// A reconciler that knows nothing yet.
    pub fn new(
        loader: Loader,
        folder: PathBuf,
        registry: Arc<Registry>,
        witness: Arc<dyn Witness>,
    ) -> Self {
        let (known, orphans) = (BTreeMap::new(), Vec::new());
        Self { loader, folder, registry, witness, number: 0, known, orphans }
    }

    /// The folder.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Whether the folder looks other than when it was reconciled last, by what
    /// [`Reconciler::stamps`] tells of it now.
    pub fn looks_changed(&self, now: &[(Sources, Stamps)]) -> bool {
        now.len() != self.known.len()
            || now.iter().zip(&self.known).any(|((sources, stamps), (known_sources, known))| {
                sources != known_sources || known.try_again || known.stamps != Some(*stamps)
            })
    }

    /// What the system says of every plugin in the folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub async fn stamps(&self) -> anyhow::Result<Vec<(Sources, Stamps)>> {
        let folder = self.folder.clone();
        blocking(move || {
            // In the order of the file names, as what is known.
            let plugins = list(&folder)?.plugins.into_iter();
            let stamped = plugins.map(|sources| {
                let stamps = sources.stamps();
                (sources, stamps)
            });
            Ok(stamped.collect())
        })
        .await
    }

    /// Brings the registry in line with the folder.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read: everything stays as it is then.
    pub async fn reconcile(&mut self, look: Look) -> anyhow::Result<Report> {
        let folder = self.folder.clone();
        let listing = blocking(move || list(&folder)).await;
        let Listing { plugins, orphans } = listing.inspect_err(|_| self.witness.unreadable())?;
        let mut report = Report::default();
        let mut now = BTreeMap::new();
        for sources in plugins {
            let before = self.known.get(&sources).cloned().unwrap_or_default();
            let known = self.look_at(&sources, &before, look).await;
            report.compare(&sources, &before, &known);
            now.insert(sources, known);
        }
        for (sources, before) in &self.known {
            if now.contains_key(sources) {
                continue;
            }
            report.changes.push(before.change(sources.shown_name(), Changed::Removed));
            if before.serving.is_some() {
                report.removed.push(sources.shown_name());
            }
        }
        let had_plugins = self.known.values().any(|known| known.serving.is_some());
        let has_plugins = now.values().any(|known| known.serving.is_some());
        for orphan in orphans.iter().filter(|orphan| !self.orphans.contains(orphan)) {
            tracing::warn!(file = ?orphan, "settings without a plugin of that name");
        }
        let changes =
            !(report.added.is_empty() && report.updated.is_empty() && report.removed.is_empty())
                || self.number == 0;
        let shown = |known: &BTreeMap<Sources, Known>| -> Vec<_> {
            known.iter().map(|(sources, known)| (sources.clone(), known.shown())).collect()
        };
        if changes || orphans != self.orphans || shown(&now) != shown(&self.known) {
            self.publish(self.number + u64::from(changes), &now, &orphans).await?;
        }
        self.number += u64::from(changes);
        (self.known, self.orphans) = (now, orphans);
        self.witness.reconciled(changes);
        report.generation = self.number;
        if had_plugins && !has_plugins {
            tracing::error!(
                folder = %self.folder.display(),
                "the last plugin is gone: every call gets the fallback"
            );
        }
        Ok(report)
    }

    /// Looks at one plugin, and loads it if it is another one than before.
    async fn look_at(&self, sources: &Sources, before: &Known, look: Look) -> Known {
        let closely = look == Look::Thorough || before.try_again || before.stamps.is_none();
        if !closely {
            let stamped = sources.clone();
            let stamps = blocking(move || Ok(stamped.stamps())).await.ok();
            if stamps == before.stamps {
                return before.clone();
            }
        }
        let read = sources.clone();
        let files = spawn_blocking(move || read.read()).await;
        let files = match files.unwrap_or(Err(PluginError::HostPanicked)) {
            Ok(files) => files,
            Err(error) => return self.refused(sources, before, None, None, &error),
        };
        let (stamps, version) = (files.stamps(), files.version);
        let same = before.version == Some(version);
        if same && !before.try_again && (before.error.is_none() || look == Look::Glance) {
            return Known { stamps, ..before.clone() };
        }
        // Back to what serves: what was wrong in between is history.
        if before.serving.is_some() && before.serving_version() == Some(version) {
            return Known {
                stamps,
                version: Some(version),
                error: None,
                try_again: false,
                ..before.clone()
            };
        }
        let stats = before
            .serving
            .as_ref()
            .map_or_else(Arc::<Stats>::default, |plugin| Arc::clone(&plugin.stats));
        let loaded = self.loader.load(sources, files, stats);
        let span = spans::load(&sources.shown_name());
        match spans::within(span, PluginError::label, loaded).await {
            Ok(loaded) => {
                let serving = match loaded {
                    Loaded::Plugin(plugin) => Some(plugin),
                    Loaded::Disabled => None,
                };
                let disabled = serving.is_none();
                Known {
                    stamps,
                    version: Some(version),
                    serving,
                    disabled,
                    error: None,
                    try_again: false,
                }
            }
            Err(error) => self.refused(sources, before, stamps, Some(version), &error),
        }
    }

    /// What is known of a plugin whose files do not serve.
    fn refused(
        &self,
        sources: &Sources,
        before: &Known,
        stamps: Option<Stamps>,
        version: Option<Version>,
        error: &PluginError,
    ) -> Known {
        let digest = version.map(|version| version.file.to_string());
        let message = error.to_string();
        // Said once, and not again by every look at the same files.
        let is_news = before.version != version
            || before.error.as_ref().is_none_or(|known| known.message != message);
        if is_news {
            self.witness.load_failed(error.stage());
            tracing::error!(
                plugin = ?sources.shown_name(),
                error = error.label(),
                stage = error.stage().name(),
                serving = before.serving.is_some(),
                "plugin is not loaded: {message}"
            );
        }
        let last = LastError::now(error, digest);
        Known {
            stamps,
            version,
            error: Some(before.error.clone().filter(|_| !is_news).unwrap_or(last)),
            try_again: error.is_transient(),
            ..before.clone()
        }
    }

    async fn publish(
        &self,
        number: u64,
        known: &BTreeMap<Sources, Known>,
        orphans: &[PathBuf],
    ) -> anyhow::Result<()> {
        let entries = known.iter().map(|(sources, known)| Entry {
            name: sources.shown_name(),
            file: sources.file.clone(),
            plugin: known.serving.clone(),
            disabled: known.disabled,
            error: known.error.clone(),
        });
        let (entries, orphans) = (entries.collect(), orphans.to_vec());
        // The index of a thousand plugins takes its time.
        let generation = blocking(move || Ok(Generation::new(number, entries, orphans)));
        self.registry.publish(generation.await?);
        Ok(())
    }
}

impl Known {
    fn serving_version(&self) -> Option<Version> {
        self.serving.as_ref().map(|plugin| plugin.version())
    }

    /// What became of it, when it is so now.
    fn change(&self, plugin: String, what: Changed) -> Change {
        let serving = self.serving.as_ref().filter(|_| what != Changed::Removed);
        let version = serving.map(|plugin| plugin.digest().to_string());
        let error = self.error.as_ref().filter(|_| what == Changed::Broken);
        Change { plugin, what, version, error: error.map(|error| error.message.clone()) }
    }

    /// What became of it since then, if anything did.
    fn changed(&self, before: &Self) -> Option<Changed> {
        let (_, was_disabled, old_error) = before.shown();
        let (_, is_disabled, error) = self.shown();
        if error.is_some() {
            return (error != old_error).then_some(Changed::Broken);
        }
        match (before.serving.is_some(), self.serving.is_some()) {
            _ if is_disabled => (!was_disabled).then_some(Changed::Disabled),
            (_, true) if old_error.is_some() => Some(Changed::Mended),
            (false, true) if was_disabled => Some(Changed::Enabled),
            (false, true) => Some(Changed::Added),
            (true, true) => (self.shown() != before.shown()).then_some(Changed::Replaced),
            (_, false) => None,
        }
    }

    /// What `/plugins` tells of it: another version, another error.
    fn shown(&self) -> (Option<u64>, bool, Option<jiff::Timestamp>) {
        let serving = self.serving.as_ref().map(|plugin| plugin.id);
        (serving, self.disabled, self.error.as_ref().map(|error| error.at))
    }
}

impl Report {
    fn compare(&mut self, sources: &Sources, before: &Known, now: &Known) {
        let name = sources.shown_name();
        self.changes.extend(now.changed(before).map(|what| now.change(name.clone(), what)));
        if let Some(error) = &now.error {
            let serving = now.serving.is_some();
            self.failed.push(Failed { name: name.clone(), serving, error: error.clone() });
        }
        match (&before.serving, &now.serving) {
            (None, Some(_)) => self.added.push(name),
            (Some(_), None) => self.removed.push(name),
            (Some(before), Some(now)) if before.id != now.id => self.updated.push(name),
            (Some(_), Some(_)) => self.unchanged += 1,
            (None, None) => {}
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    spawn_blocking(work).await.context("the host panicked; please report it")?
}
