//! Judging a plugin's files for their author: everything that can be found out about
//! them, also when they cannot be used. The same steps as loading for service.

mod anatomy;
mod terms;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use wasmtime::component::Component;

pub use self::anatomy::{Anatomy, Import, Means};
pub use self::terms::{Grants, Terms};
use super::component::Checked;
use super::error::{PluginError, Stage};
use super::limits;
use super::load::{Loader, settings};
use super::record::Record;
use super::settings::Settings;
use super::sources::{Files, Sources, Version};
use super::stats::Stats;
use super::{Hook, Plugin};

use crate::units::micros;

/// What was found out about one plugin.
#[derive(Serialize)]
pub struct Examination {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// The component.
    pub file: PathBuf,
    /// Of the file. None: it cannot be read.
    pub bytes: Option<u64>,
    /// Of the file, in hex.
    pub sha256: Option<String>,
    /// Whether it can serve.
    pub state: State,
    /// What stands in its way.
    pub error: Option<Fault>,
    /// What is odd about it, and what to do.
    pub warnings: Vec<String>,
    /// What the file is, in a word.
    pub kind: Option<&'static str>,
    /// What it is made of, if it is a component.
    pub component: Option<Anatomy>,
    /// The tools that it answers.
    pub tools: Vec<String>,
    /// What its settings come to, if they can be read.
    pub settings: Option<Terms>,
    /// How long compiling took, in microseconds.
    pub compile_us: Option<u64>,
    /// What the first instance took.
    pub instance: Option<Trial>,
    /// The plugin, if it can serve, also when it is switched off.
    #[serde(skip)]
    pub plugin: Option<Arc<Plugin>>,
    /// What the first instance did.
    #[serde(skip)]
    pub record: Record,
}

/// Whether a plugin can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It would.
    Good,
    /// It cannot.
    Broken,
    /// Its settings say that it shall not.
    Disabled,
}

/// What stands in a plugin's way.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// Where in the plugin's life.
    pub stage: Stage,
    /// The word of metrics and logs.
    pub label: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl From<&PluginError> for Fault {
    fn from(error: &PluginError) -> Self {
        Self { stage: error.stage(), label: error.label(), message: error.to_string() }
    }
}

/// What a first instance took.
#[derive(Debug, Serialize)]
pub struct Trial {
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
    pub async fn examine(&self, sources: &Sources) -> Examination {
        let mut found = Examination::of(sources);
        if let Err(error) = self.look(sources, &mut found).await {
            let disabled = found.settings.as_ref().is_some_and(|terms| !terms.enabled);
            if !disabled {
                found.state = State::Broken;
            }
            found.kind = found.kind.or_else(|| kind(&error));
            found.error = Some(Fault::from(&error));
        }
        found
    }

    async fn look(&self, sources: &Sources, found: &mut Examination) -> Result<(), PluginError> {
        let name = sources.name()?;
        let Files { bytes, settings: text, version, .. } = sources.read()?;
        found.bytes = Some(bytes.len() as u64);
        found.sha256 = Some(version.file.to_string());
        let has_settings = text.is_some();
        let settings = settings(sources, text).await;
        if let Ok(settings) = &settings {
            let file = has_settings.then(|| sources.settings.clone());
            let limits = limits::Limits::new(&settings.limits, &self.defaults);
            found.settings = Some(Terms::new(settings, limits, file));
            if !settings.enabled {
                found.state = State::Disabled;
            }
        }
        // Before the verdict on the settings: the component can be looked at without.
        let start = Instant::now();
        let component = self.compile(version.file, bytes).await;
        if let Ok(component) = &component {
            found.compile_us = Some(micros(start.elapsed()));
            found.kind = Some("component");
            found.component = Some(Anatomy::of(component));
        }
        let settings = settings?;
        self.check_memory(&settings)?;
        self.set_up(name, settings, version, &component?, found).await
    }

    async fn set_up(
        &self,
        name: &str,
        settings: Settings,
        version: Version,
        component: &Component,
        found: &mut Examination,
    ) -> Result<(), PluginError> {
        let size = found.bytes.unwrap_or_default();
        let checked = Arc::new(Checked::link(&self.linker, component, size)?);
        found.warnings = found.ungranted();
        let plugin =
            self.assemble(name, settings, version, checked, Arc::new(Stats::default())).await;
        if let Some(recorder) = &self.recorder {
            found.record = recorder.take();
        }
        let plugin = plugin?;
        found.tools = plugin.tools().iter().map(|name| name.to_string()).collect();
        let Record { total, memory, core_instances, .. } = found.record;
        found.instance = Some(Trial { took_us: micros(total), memory, core_instances });
        found.plugin = Some(plugin);
        Ok(())
    }
}

impl Examination {
    fn of(sources: &Sources) -> Self {
        Self {
            name: sources.shown_name(),
            file: sources.file.clone(),
            bytes: None,
            sha256: None,
            state: State::Good,
            error: None,
            warnings: Vec::new(),
            kind: None,
            component: None,
            tools: Vec::new(),
            settings: None,
            compile_us: None,
            instance: None,
            plugin: None,
            record: Record::default(),
        }
    }

    /// The hooks that it exports, as far as is known.
    pub fn hooks(&self) -> &[Hook] {
        self.component.as_ref().map_or(&[], |component| &component.hooks)
    }

    /// What it wants and does not get, and what it is given and does not want.
    fn ungranted(&self) -> Vec<String> {
        let (Some(component), Some(terms)) = (&self.component, &self.settings) else {
            return Vec::new();
        };
        let imports = |name: &str| component.imports_capability(name);
        let Grants { kv, metrics, http } = &terms.grants;
        let example = "grants.http = [\"host:port\"]";
        [("kv", *kv, "grants.kv = true"), ("metrics", *metrics, "grants.metrics = true")]
            .into_iter()
            .chain([("http", !http.is_empty(), example)])
            .filter_map(|(name, granted, setting)| match (imports(name), granted) {
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
fn kind(error: &PluginError) -> Option<&'static str> {
    match error {
        PluginError::Empty => Some("empty file"),
        PluginError::NotWasm { .. } => Some("no WebAssembly"),
        PluginError::CoreModule => Some("core module"),
        PluginError::Precompiled => Some("compiled code"),
        PluginError::Malformed(_) => Some("damaged component"),
        _ => None,
    }
}
