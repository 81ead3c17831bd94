//! Effective settings of a plugin: its own with the server's defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::super::limits;
use super::super::settings::{CallField, OnFailure, Settings};
use plugboard_core::event::EventKind;
use plugboard_core::platforms::Platform;

/// What a plugin's settings come to.
#[derive(Debug, Serialize)]
pub struct EffectiveSettings {
    /// The settings file. None: there is none, everything is as by default.
    pub file: Option<PathBuf>,
    /// Whether it is loaded at all.
    pub enabled: bool,
    /// Whose calls it is asked about. Empty: everybody's.
    pub platforms: Vec<Platform>,
    /// Patterns, by field, of the calls that it is asked about. Empty: all.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, Vec<String>>,
    /// What its failure means for the call.
    pub on_failure: OnFailure,
    /// The kinds of events that an observer is told.
    pub events: Vec<EventKind>,
    /// The names of its values, which may be secrets.
    pub config: Vec<String>,
    /// Its bounds.
    pub limits: EffectiveLimits,
    /// What it may use.
    pub grants: EffectiveGrants,
}

/// The bounds of a plugin.
#[derive(Debug, Serialize)]
pub struct EffectiveLimits {
    /// For a decision, and for a say in a transfer, in milliseconds.
    pub timeout_ms: u64,
    /// For an event, in milliseconds.
    pub event_timeout_ms: u64,
    /// For a use of a tool, in milliseconds.
    pub tool_timeout_ms: u64,
    /// All linear memories together, in bytes.
    pub memory: usize,
}

/// What a plugin may use.
#[derive(Debug, Serialize)]
pub struct EffectiveGrants {
    /// Values that outlive a call.
    pub kv: bool,
    /// Figures of its own.
    pub metrics: bool,
    /// Requests to these hosts.
    pub http: Vec<String>,
}

impl EffectiveSettings {
    /// Of these settings. `file` is where they stand.
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
