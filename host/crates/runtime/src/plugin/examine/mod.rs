//! Examination of a plugin's files for their author.
//!
//! Takes the same steps as loading, and reports what each step found even if a step
//! fails.

mod component_info;
mod effective_settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use wasmtime::component::Component;

pub use self::component_info::{ComponentInfo, Import, ImportOrigin};
pub use self::effective_settings::{EffectiveGrants, EffectiveSettings};
use super::component::LinkedComponent;
use super::error::{CallError, LoadError, Stage};
use super::limits;
use super::load::{Loader, parse_settings};
use super::plugin_files::{PluginContents, PluginFiles, PluginVersion};
use super::recorder::InvocationRecord;
use super::settings::Settings;
use super::stats::Stats;
use super::{Hook, Plugin};

use plugboard_core::units::micros;

/// What was found out about one plugin.
#[derive(Serialize)]
pub struct PluginReport {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// The component.
    pub file: PathBuf,
    /// Of the file. None: it cannot be read.
    pub bytes: Option<u64>,
    /// Of the file, in hex.
    pub sha256: Option<String>,
    /// Whether it can serve.
    pub state: ReportStatus,
    /// What stands in its way.
    pub error: Option<ReportedError>,
    /// What is odd about it, and what to do.
    pub warnings: Vec<String>,
    /// What the file is, in a word.
    pub kind: Option<&'static str>,
    /// What it is made of, if it is a component.
    pub component: Option<ComponentInfo>,
    /// The tools that it answers.
    pub tools: Vec<String>,
    /// What its settings come to, if they can be read.
    pub settings: Option<EffectiveSettings>,
    /// How long compiling took, in microseconds.
    pub compile_us: Option<u64>,
    /// What the first instance took.
    pub instance: Option<TrialRun>,
    /// The plugin, if it can serve, also when it is switched off.
    #[serde(skip)]
    pub plugin: Option<Arc<Plugin>>,
    /// What the first instance did.
    #[serde(skip)]
    pub record: InvocationRecord,
}

/// Whether a plugin can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportStatus {
    /// It would.
    Good,
    /// It cannot.
    Broken,
    /// Its settings say that it shall not.
    Disabled,
}

/// What stands in a plugin's way.
#[derive(Debug, Serialize)]
pub struct ReportedError {
    /// Where in the plugin's life.
    pub stage: Stage,
    /// The word of metrics and logs.
    pub label: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl From<&LoadError> for ReportedError {
    fn from(error: &LoadError) -> Self {
        Self { stage: error.stage(), label: error.label(), message: error.to_string() }
    }
}

impl From<&CallError> for ReportedError {
    fn from(error: &CallError) -> Self {
        Self { stage: Stage::Call, label: error.label(), message: error.to_string() }
    }
}

/// What a first instance took.
#[derive(Debug, Serialize)]
pub struct TrialRun {
    /// To make it, and to hear the names of its tools, in microseconds.
    pub took_us: u64,
    /// Linear memory that it then had, in bytes.
    pub memory: usize,
    /// Core instances that it is made of, where there is a pool to count them.
    pub core_instances: Option<u64>,
}

impl Loader {
    /// Finds out what can be found out about a plugin, and loads it if that can be
    /// done, also when its settings switch it off.
    pub async fn examine(&self, plugin_files: &PluginFiles) -> PluginReport {
        let mut report = PluginReport::new(plugin_files);
        if let Err(error) = self.inspect(plugin_files, &mut report).await {
            let disabled = report.settings.as_ref().is_some_and(|settings| !settings.enabled);
            if !disabled {
                report.state = ReportStatus::Broken;
            }
            report.kind = report.kind.or_else(|| file_kind(&error));
            report.error = Some(ReportedError::from(&error));
        }
        report
    }

    async fn inspect(
        &self,
        plugin_files: &PluginFiles,
        report: &mut PluginReport,
    ) -> Result<(), LoadError> {
        let name = plugin_files.name()?;
        let PluginContents { bytes, settings: text, version, .. } = plugin_files.read()?;
        report.bytes = Some(bytes.len() as u64);
        report.sha256 = Some(version.file.to_string());
        let has_settings = text.is_some();
        let settings = parse_settings(plugin_files, text).await;
        if let Ok(settings) = &settings {
            let file = has_settings.then(|| plugin_files.settings.clone());
            let limits = limits::ResourceLimits::new(&settings.limits, &self.defaults);
            report.settings = Some(EffectiveSettings::new(settings, limits, file));
            if !settings.enabled {
                report.state = ReportStatus::Disabled;
            }
        }
        // Before the verdict on the settings: the component can be looked at without.
        let start = Instant::now();
        let component = self.compile(version.file, bytes).await;
        if let Ok(component) = &component {
            report.compile_us = Some(micros(start.elapsed()));
            report.kind = Some("component");
            report.component = Some(ComponentInfo::new(component));
        }
        let settings = settings?;
        self.check_memory(&settings)?;
        self.try_assemble(name, settings, version, &component?, report).await
    }

    async fn try_assemble(
        &self,
        name: &str,
        settings: Settings,
        version: PluginVersion,
        component: &Component,
        report: &mut PluginReport,
    ) -> Result<(), LoadError> {
        let size = report.bytes.unwrap_or_default();
        let linked = Arc::new(LinkedComponent::link(&self.linker, component, size)?);
        report.warnings = report.grant_warnings();
        let plugin =
            self.assemble(name, settings, version, linked, Arc::new(Stats::default())).await;
        if let Some(recorder) = &self.recorder {
            report.record = recorder.take();
        }
        let plugin = plugin?;
        report.tools = plugin.tools().iter().map(|name| name.to_string()).collect();
        let InvocationRecord { duration: total, peak_memory: memory, core_instances, .. } =
            report.record;
        report.instance = Some(TrialRun { took_us: micros(total), memory, core_instances });
        report.plugin = Some(plugin);
        Ok(())
    }
}

impl PluginReport {
    fn new(plugin_files: &PluginFiles) -> Self {
        Self {
            name: plugin_files.display_name(),
            file: plugin_files.file.clone(),
            bytes: None,
            sha256: None,
            state: ReportStatus::Good,
            error: None,
            warnings: Vec::new(),
            kind: None,
            component: None,
            tools: Vec::new(),
            settings: None,
            compile_us: None,
            instance: None,
            plugin: None,
            record: InvocationRecord::default(),
        }
    }

    /// The hooks that it exports, as far as is known.
    pub fn hooks(&self) -> &[Hook] {
        self.component.as_ref().map_or(&[], |component| &component.hooks)
    }

    /// What it wants and does not get, and what it is given and does not want.
    fn grant_warnings(&self) -> Vec<String> {
        let (Some(component), Some(settings)) = (&self.component, &self.settings) else {
            return Vec::new();
        };
        let is_imported = |name: &str| component.imports_capability(name);
        let EffectiveGrants { kv, metrics, http } = &settings.grants;
        let example = "grants.http = [\"host:port\"]";
        [("kv", *kv, "grants.kv = true"), ("metrics", *metrics, "grants.metrics = true")]
            .into_iter()
            .chain([("http", !http.is_empty(), example)])
            .filter_map(|(name, granted, setting)| match (is_imported(name), granted) {
                (true, false) => Some(format!(
                    "it imports {name}, and its settings do not grant it: what it asks for is \
                     refused; set `{setting}`"
                )),
                (false, true) => Some(format!(
                    "its settings grant {name}, and it does not import it; take `grants.{name}` \
                     out"
                )),
                _ => None,
            })
            .collect()
    }
}

/// What a file is that is no component, as far as the error tells.
fn file_kind(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::EmptyFile => Some("empty file"),
        LoadError::NotWasm { .. } => Some("no WebAssembly"),
        LoadError::CoreModule => Some("core module"),
        LoadError::Precompiled => Some("compiled code"),
        LoadError::Malformed(_) => Some("damaged component"),
        _ => None,
    }
}
