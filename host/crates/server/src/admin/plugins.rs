//! `GET /plugins`: the plugins with their state, statistics and last error.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::AppState;
use super::super::error::json_response;
use plugboard_registry::PluginEntry;
use plugboard_runtime::plugin::breaker::CircuitState;
use plugboard_runtime::plugin::histogram::LatencySummary;
use plugboard_runtime::plugin::stats::{
    EventStatsSnapshot, LastError, MidCallStatsSnapshot, VerdictCounts,
};
use plugboard_runtime::plugin::{Hook, Plugin};

pub(super) async fn plugins(State(app): State<Arc<AppState>>) -> Response {
    let generation = app.services.registry.current();
    let backlogs = app.services.dispatcher.consumer_lags();
    let plugins =
        generation.entries.iter().map(|entry| PluginStatus::new(entry, &backlogs)).collect();
    json_response(&PluginListing { generation: generation.number, plugins })
}

#[derive(Serialize)]
struct PluginListing<'a> {
    generation: u64,
    plugins: Vec<PluginStatus<'a>>,
}

/// A plugin file, whether it serves or not.
#[derive(Serialize)]
struct PluginStatus<'a> {
    name: &'a str,
    file: &'a Path,
    state: PluginState,
    /// Whether the file cannot be loaded while an earlier version serves.
    outdated: bool,
    /// The load error, or else the last error in a call.
    last_error: Option<LastError>,
    /// The lag of an observer, in events, roughly.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u64>,
    /// The serving version.
    #[serde(flatten)]
    serving: Option<ServingVersion<'a>>,
}

/// The state of a plugin.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum PluginState {
    /// It serves.
    Active,
    /// Its circuit breaker is open.
    #[serde(rename = "set_aside")]
    CircuitOpen,
    /// It could not be loaded.
    Broken,
    /// The operator disabled it.
    Disabled,
}

#[derive(Serialize)]
struct ServingVersion<'a> {
    digest: String,
    size: u64,
    exports: &'a [Hook],
    breaker: CircuitState,
    calls: u64,
    failures: u64,
    decisions: VerdictCounts,
    cached: VerdictCounts,
    latency_us: LatencySummary,
    /// Present for observers.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<ObserverReport>,
    /// Present for plugins with tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<ToolsReport<'a>>,
    /// Present for plugins with the transfers hook.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers: Option<MidCallReport>,
}

/// Statistics of the tools hook.
#[derive(Serialize)]
struct ToolsReport<'a> {
    names: &'a [Box<str>],
    #[serde(flatten)]
    used: MidCallReport,
}

/// Statistics of a mid-call hook.
#[derive(Serialize)]
struct MidCallReport {
    breaker: CircuitState,
    answered: u64,
    /// Errors that a tool returned itself, or transfers without a decision.
    declined: u64,
    failed: u64,
    cached: u64,
    latency_us: LatencySummary,
}

/// Statistics of the observer hook.
#[derive(Serialize)]
struct ObserverReport {
    breaker: CircuitState,
    delivered: u64,
    /// Failed attempts.
    failed: u64,
    dead: u64,
    latency_us: LatencySummary,
    /// From acceptance to delivery.
    delay_us: LatencySummary,
}

impl<'a> PluginStatus<'a> {
    fn new(entry: &'a PluginEntry, backlogs: &[(Arc<str>, u64)]) -> Self {
        let serving = entry.plugin.as_deref().map(ServingVersion::from);
        let state = match &entry.plugin {
            Some(plugin) if plugin.is_circuit_open(Instant::now()) => PluginState::CircuitOpen,
            Some(_) => PluginState::Active,
            None if entry.is_broken() => PluginState::Broken,
            None => PluginState::Disabled,
        };
        let last_call_error = || entry.plugin.as_ref().and_then(|plugin| plugin.last_error());
        let last_error = entry.error.clone().or_else(last_call_error);
        let backlog = backlogs.iter().find(|(name, _)| **name == entry.name);
        let backlog = backlog.map(|(_, backlog)| *backlog);
        let outdated = entry.plugin.is_some() && entry.error.is_some();
        Self { name: &entry.name, file: &entry.file, state, outdated, last_error, backlog, serving }
    }
}

impl<'a> From<&'a Plugin> for ServingVersion<'a> {
    fn from(plugin: &'a Plugin) -> Self {
        let stats = plugin.stats();
        Self {
            digest: plugin.digest().to_string(),
            size: plugin.size(),
            exports: plugin.hooks(),
            breaker: plugin.breaker(Hook::Router).circuit_state(Instant::now()),
            calls: stats.latency.count(),
            failures: stats.failures.values().sum(),
            decisions: stats.plugin_verdicts,
            cached: stats.cached_verdicts,
            latency_us: stats.latency.summary(),
            events: ObserverReport::new(plugin, &stats.events),
            tools: MidCallReport::new(plugin, Hook::Tools, &stats.tools)
                .map(|used| ToolsReport { names: plugin.tools(), used }),
            transfers: MidCallReport::new(plugin, Hook::Transfers, &stats.transfers),
        }
    }
}

impl MidCallReport {
    /// `None`: the plugin does not have the hook.
    fn new(plugin: &Plugin, hook: Hook, stats: &MidCallStatsSnapshot) -> Option<Self> {
        if !plugin.has_hook(hook) {
            return None;
        }
        Some(Self {
            breaker: plugin.breaker(hook).circuit_state(Instant::now()),
            answered: stats.answered,
            declined: stats.declined,
            failed: stats.failed,
            cached: stats.cached,
            latency_us: stats.latency.summary(),
        })
    }
}

impl ObserverReport {
    /// `None`: the plugin is not an observer.
    fn new(plugin: &Plugin, stats: &EventStatsSnapshot) -> Option<Self> {
        if !plugin.has_hook(Hook::Observer) {
            return None;
        }
        Some(Self {
            breaker: plugin.breaker(Hook::Observer).circuit_state(Instant::now()),
            delivered: stats.delivered,
            failed: stats.failed,
            dead: stats.dead_lettered,
            latency_us: stats.latency.summary(),
            delay_us: stats.delivery_latency.summary(),
        })
    }
}
