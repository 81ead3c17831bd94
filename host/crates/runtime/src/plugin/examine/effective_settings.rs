//! Effective settings of a plugin: its settings file with the server's defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::super::limits;
use super::super::settings::{CallField, OnFailure, Settings};
use plugboard_core::event::EventKind;
use plugboard_core::platforms::Platform;

/// Effective settings of a plugin.
#[derive(Debug, Serialize)]
pub struct EffectiveSettings {
    /// Settings file. `None`: the file does not exist, and the defaults apply.
    pub file: Option<PathBuf>,
    /// True if the server loads the plugin.
    pub enabled: bool,
    /// Platforms whose calls it receives. Empty: all.
    pub platforms: Vec<Platform>,
    /// Patterns of the calls that it receives, by field. Empty: all calls.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, Vec<String>>,
    /// Consequence of its failure for the call.
    pub on_failure: OnFailure,
    /// Kinds of events that an observer receives.
    pub events: Vec<EventKind>,
    /// Keys of its configuration values, without the values, which may be secrets.
    pub config: Vec<String>,
    /// Resource limits of its calls.
    pub limits: EffectiveLimits,
    /// Capabilities that it may use.
    pub grants: EffectiveGrants,
}

/// Effective limits of a plugin.
#[derive(Debug, Serialize)]
pub struct EffectiveLimits {
    /// Time limit of a decision or a transfer, in milliseconds.
    pub timeout_ms: u64,
    /// Time limit of an event, in milliseconds.
    pub event_timeout_ms: u64,
    /// Time limit of a tool call, in milliseconds.
    pub tool_timeout_ms: u64,
    /// Limit of all linear memories together, in bytes.
    pub memory: usize,
}

/// Capabilities that a plugin may use.
#[derive(Debug, Serialize)]
pub struct EffectiveGrants {
    /// Key-value store, whose values outlive a call.
    pub kv: bool,
    /// Custom counters and histograms.
    pub metrics: bool,
    /// Hosts that HTTP requests may reach.
    pub http: Vec<String>,
}

impl EffectiveSettings {
    /// Combines settings and limits. `file` is the settings file, if it exists.
    pub(super) fn new(
        settings: &Settings,
        limits: limits::ResourceLimits,
        file: Option<PathBuf>,
    ) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let kinds = settings.events.kinds();
        Self {
            file,
            enabled: settings.enabled,
            platforms: settings.platforms.clone(),
            matches: settings
                .matches
                .fields()
                .map(|(field, globs)| {
                    let name = match field {
                        CallField::Standard(name) => name.to_owned(),
                        CallField::Metadata(name) => format!("metadata.{name}"),
                    };
                    let patterns = globs.patterns().iter().map(|glob| glob.glob().to_owned());
                    (name, patterns.collect())
                })
                .collect(),
            on_failure: settings.on_failure,
            events: EventKind::ALL.into_iter().filter(|kind| kinds.contains(*kind)).collect(),
            config: settings.config.keys().cloned().collect(),
            limits: EffectiveLimits {
                timeout_ms: millis(limits.timeout),
                event_timeout_ms: millis(limits.event_timeout),
                tool_timeout_ms: millis(limits.tool_timeout),
                memory: limits.memory,
            },
            grants: EffectiveGrants {
                kv: settings.grants.kv,
                metrics: settings.grants.metrics,
                http: settings.grants.http.entries().collect(),
            },
        }
    }
}
