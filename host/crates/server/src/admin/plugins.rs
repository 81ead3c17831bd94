//! `GET /plugins`: the plugins with their state, statistics and last error.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::app_state::AppState;
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
    let lags = app.services.dispatcher.consumer_lags();
    let plugins = generation.entries.iter().map(|entry| PluginStatus::new(entry, &lags)).collect();
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
    /// True if the file cannot be loaded while an earlier version serves.
    stale_version: bool,
    /// The load error, or the last error in a call.
    last_error: Option<LastError>,
    /// The approximate lag of an observer, in events.
    #[serde(skip_serializing_if = "Option::is_none")]
    lag: Option<u64>,
    /// The version that serves.
    #[serde(flatten)]
    serving: Option<ServingVersion<'a>>,
}

/// The state of a plugin.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum PluginState {
    Active,
    CircuitOpen,
    Broken,
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
    /// Statistics of observers only.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<ObserverReport>,
    /// Statistics of plugins with tools only.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<ToolsReport<'a>>,
    /// Statistics of plugins with the transfers hook only.
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
    /// Number of errors that a tool returned itself, or of transfers without a decision.
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
    /// Number of failed attempts.
    failed: u64,
    dead_letters: u64,
    latency_us: LatencySummary,
    /// Time from acceptance to delivery, in microseconds.
    delivery_latency_us: LatencySummary,
}

impl<'a> PluginStatus<'a> {
    fn new(entry: &'a PluginEntry, lags: &[(Arc<str>, u64)]) -> Self {
        let serving = entry.plugin.as_deref().map(ServingVersion::from);
        let state = match &entry.plugin {
            Some(plugin) if plugin.is_circuit_open(Instant::now()) => PluginState::CircuitOpen,
            Some(_) => PluginState::Active,
            None if entry.is_broken() => PluginState::Broken,
            None => PluginState::Disabled,
        };
        let last_call_error = || entry.plugin.as_ref().and_then(|plugin| plugin.last_error());
        let last_error = entry.error.clone().or_else(last_call_error);
        let lag = lags.iter().find(|(name, _)| **name == entry.name).map(|(_, lag)| *lag);
        let stale_version = entry.plugin.is_some() && entry.error.is_some();
        Self {
            name: &entry.name,
            file: &entry.file,
            state,
            stale_version,
            last_error,
            lag,
            serving,
        }
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
    /// Creates the report; `None` if the plugin does not have the hook.
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
    /// Creates the report; `None` if the plugin is not an observer.
    fn new(plugin: &Plugin, stats: &EventStatsSnapshot) -> Option<Self> {
        if !plugin.has_hook(Hook::Observer) {
            return None;
        }
        Some(Self {
            breaker: plugin.breaker(Hook::Observer).circuit_state(Instant::now()),
            delivered: stats.delivered,
            failed: stats.failed,
            dead_letters: stats.dead_lettered,
            latency_us: stats.latency.summary(),
            delivery_latency_us: stats.delivery_latency.summary(),
        })
    }
}
