//! `GET /plugins`: what there is, what it did, and what went wrong.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::super::App;
use super::super::error::json;
use crate::plugin::breaker::Condition;
use crate::plugin::histogram::Latency;
use crate::plugin::stats::{Decisions, EventStats, LastError, UseStats};
use crate::plugin::{Hook, Plugin};
use crate::registry::Entry;

pub(super) async fn plugins(State(app): State<Arc<App>>) -> Response {
    let generation = app.registry.current();
    let backlogs = app.dispatcher.backlogs();
    let plugins = generation.entries.iter().map(|entry| Row::of(entry, &backlogs)).collect();
    json(&Listing { generation: generation.number, plugins })
}

#[derive(Serialize)]
struct Listing<'a> {
    generation: u64,
    plugins: Vec<Row<'a>>,
}

/// One plugin, whether it serves or not.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    file: &'a Path,
    state: Status,
    /// Whether what is in the folder cannot be loaded, and an earlier version serves.
    outdated: bool,
    /// Why what is in the folder does not serve, else what went wrong in a call.
    last_error: Option<LastError>,
    /// Of an observer: how many events wait for it, roughly.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u64>,
    /// What serves.
    #[serde(flatten)]
    serving: Option<Serving<'a>>,
}

/// What a plugin is doing.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It is asked about calls.
    Active,
    /// It is not asked or told, because it keeps failing.
    SetAside,
    /// It could not be loaded.
    Broken,
    /// The operator switched it off.
    Disabled,
}

#[derive(Serialize)]
struct Serving<'a> {
    digest: String,
    size: u64,
    exports: &'a [Hook],
    breaker: Condition,
    calls: u64,
    failures: u64,
    decisions: Decisions,
    cached: Decisions,
    latency_us: Latency,
    /// Of an observer.
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Told>,
    /// Of one that answers tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Tools<'a>>,
    /// Of one that has a say in transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers: Option<Used>,
}

/// What a plugin did for voice agents.
#[derive(Serialize)]
struct Tools<'a> {
    names: &'a [Box<str>],
    #[serde(flatten)]
    used: Used,
}

/// What a plugin did in the middle of calls.
#[derive(Serialize)]
struct Used {
    breaker: Condition,
    answered: u64,
    /// A tool's own errors, or transfers without an opinion.
    declined: u64,
    failed: u64,
    cached: u64,
    latency_us: Latency,
}

/// What an observer did.
#[derive(Serialize)]
struct Told {
    breaker: Condition,
    delivered: u64,
    /// Attempts.
    failed: u64,
    dead: u64,
    latency_us: Latency,
    /// From acceptance to delivery.
    delay_us: Latency,
}

impl<'a> Row<'a> {
    fn of(entry: &'a Entry, backlogs: &[(Arc<str>, u64)]) -> Self {
        let serving = entry.plugin.as_deref().map(Serving::from);
        let state = match &entry.plugin {
            Some(plugin) if plugin.is_set_aside(Instant::now()) => Status::SetAside,
            Some(_) => Status::Active,
            None if entry.is_broken() => Status::Broken,
            None => Status::Disabled,
        };
        let called = || entry.plugin.as_ref().and_then(|plugin| plugin.last_error());
        let last_error = entry.error.clone().or_else(called);
        let backlog = backlogs.iter().find(|(name, _)| **name == entry.name);
        let backlog = backlog.map(|(_, backlog)| *backlog);
        let outdated = entry.plugin.is_some() && entry.error.is_some();
        Self { name: &entry.name, file: &entry.file, state, outdated, last_error, backlog, serving }
    }
}

impl<'a> From<&'a Plugin> for Serving<'a> {
    fn from(plugin: &'a Plugin) -> Self {
        let seen = plugin.stats.snapshot();
        Self {
            digest: plugin.digest().to_string(),
            size: plugin.size(),
            exports: plugin.hooks(),
            breaker: plugin.breaker(Hook::Router).condition(Instant::now()),
            calls: seen.times.count(),
            failures: seen.failures.values().sum(),
            decisions: seen.ran,
            cached: seen.cached,
            latency_us: seen.times.latency(),
            events: plugin.has(Hook::Observer).then(|| Told::from(plugin)),
            tools: Used::of(plugin, Hook::Tools, &plugin.stats.tools)
                .map(|used| Tools { names: plugin.tools(), used }),
            transfers: Used::of(plugin, Hook::Transfers, &plugin.stats.transfers),
        }
    }
}

impl Used {
    /// None: the plugin has no such hook.
    fn of(plugin: &Plugin, hook: Hook, uses: &UseStats) -> Option<Self> {
        if !plugin.has(hook) {
            return None;
        }
        let UseStats { answered, declined, failed, cached, times } = uses;
        Some(Self {
            breaker: plugin.breaker(hook).condition(Instant::now()),
            answered: answered.load(Relaxed),
            declined: declined.load(Relaxed),
            failed: failed.load(Relaxed),
            cached: cached.load(Relaxed),
            latency_us: times.snapshot().latency(),
        })
    }
}

impl From<&Plugin> for Told {
    fn from(plugin: &Plugin) -> Self {
        let EventStats { delivered, failed, dead, times, delays } = &plugin.stats.events;
        Self {
            breaker: plugin.breaker(Hook::Observer).condition(Instant::now()),
            delivered: delivered.load(Relaxed),
            failed: failed.load(Relaxed),
            dead: dead.load(Relaxed),
            latency_us: times.snapshot().latency(),
            delay_us: delays.snapshot().latency(),
        }
    }
}
