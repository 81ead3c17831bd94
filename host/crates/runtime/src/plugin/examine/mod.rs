//! Examination of a plugin's files for their author.
//!
//! Takes the same steps as loading, and reports the result of each step, even if one fails.

mod component_info;
mod effective_settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use wasmtime::component::Component;

pub use self::component_info::{ComponentInfo, Import, ImportOrigin};
pub use self::effective_settings::{EffectiveGrants, EffectiveSettings};
use super::Plugin;
use super::component::LinkedComponent;
use super::contract::Hook;
use super::error::{CallError, LoadError, Stage};
use super::limits;
use super::load::{Loader, parse_settings};
use super::plugin_files::{PluginContents, PluginFiles, PluginVersion};
use super::recorder::InvocationRecord;
use super::settings::Settings;
use super::stats::Stats;

use plugboard_core::units::micros;

/// Result of the examination of one plugin.
#[derive(Serialize)]
pub struct PluginReport {
    /// Name of the plugin: the file name without its extension.
    pub name: String,
    /// Path of the component.
    pub file: PathBuf,
    /// Size of the file. `None`: it cannot be read.
    pub bytes: Option<u64>,
    /// SHA-256 of the file, in hex.
    pub sha256: Option<String>,
    /// Result: good, broken or disabled.
    pub state: ReportStatus,
    /// Error that prevents the plugin from serving.
    pub error: Option<ReportedError>,
    /// Warnings, each with a remedy.
    pub warnings: Vec<String>,
    /// Type of the file, such as `component`, if known.
    pub kind: Option<&'static str>,
    /// Contents of the file, if it is a component.
    pub component: Option<ComponentInfo>,
    /// Names of its tools.
    pub tools: Vec<String>,
    /// Effective settings, if they can be read.
    pub settings: Option<EffectiveSettings>,
    /// Duration of the compilation, in microseconds.
    pub compile_us: Option<u64>,
    /// Resource use of the trial instance.
    pub instance: Option<TrialRun>,
    /// Loaded plugin, if it can serve, even if its settings disable it.
    #[serde(skip)]
    pub plugin: Option<Arc<Plugin>>,
    /// Steps of the trial instance.
    #[serde(skip)]
    pub record: InvocationRecord,
}

/// Result of an examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportStatus {
    /// The plugin can serve.
    Good,
    /// The plugin cannot serve.
    Broken,
    /// The settings disable the plugin.
    Disabled,
}

/// Error that prevents a plugin from serving.
#[derive(Debug, Serialize)]
pub struct ReportedError {
    /// Step in the plugin's life that failed.
    pub stage: Stage,
    /// Label in metrics and logs.
    pub label: &'static str,
    /// Text with the cause and the remedy.
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

/// Resource use of the trial instance.
#[derive(Debug, Serialize)]
pub struct TrialRun {
    /// Duration of its creation and of the call for its tool names, in microseconds.
    pub took_us: u64,
    /// Peak of its linear memory, in bytes.
    pub memory: usize,
    /// Number of its core instances, if a pool counts them.
    pub core_instances: Option<u64>,
}

impl Loader {
    /// Examines a plugin, and loads it if possible, even if its settings disable it.
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
        // Compiles even if the settings are invalid, because the report describes both.
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

    /// Returns the hooks that it exports; empty if the component cannot be read.
    pub fn hooks(&self) -> &[Hook] {
        self.component.as_ref().map_or(&[], |component| &component.hooks)
    }

    /// Returns warnings about imports without a grant, and about unused grants.
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
                    "the component imports {name}, but the settings do not grant it, so its \
                     calls fail; set `{setting}`"
                )),
                (false, true) => Some(format!(
                    "the settings grant {name}, but the component does not import it; remove \
                     `grants.{name}`"
                )),
                _ => None,
            })
            .collect()
    }
}

/// Returns the type of a file that is not a component, if the error reveals it.
fn file_kind(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::EmptyFile => Some("empty file"),
        LoadError::NotWasm { .. } => Some("not WebAssembly"),
        LoadError::CoreModule => Some("core module"),
        LoadError::Precompiled => Some("machine code"),
        LoadError::Malformed(_) => Some("damaged component"),
        _ => None,
    }
}
