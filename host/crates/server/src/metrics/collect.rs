//! The snapshot of the services that a scrape encodes.

#[doc(hidden)]
pub mod sample;

use std::fmt::{self, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge, Histogram};
use tokio::time::Instant;

use super::guest_metrics;
use super::http::HttpCounters;
use super::writer::{MetricWriter, escape_label_value};
use plugboard_events::journal::EventCounters;
use plugboard_registry::Generation;
use plugboard_routing::cache;
use plugboard_runtime::engine;
use plugboard_runtime::plugin::stats::{
    EventStatsSnapshot, MidCallStatsSnapshot, StatsSnapshot, VerdictCounts,
};
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store as store;

/// The values of all services at one moment.
pub(super) struct MetricsSnapshot {
    pub(super) engine: engine::EngineStats,
    pub(super) cache: Option<cache::CacheStats>,
    pub(super) http: Arc<HttpCounters>,
    pub(super) generation: Arc<Generation>,
    /// Number of events by result.
    pub(super) events: [(&'static str, u64); 6],
    pub(super) store: store::StoreStats,
    /// The lag of every observer, also of observers without a serving plugin.
    pub(super) consumer_lags: Vec<(Arc<str>, u64)>,
    pub(super) is_store_up: bool,
}

impl fmt::Debug for MetricsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect").finish_non_exhaustive()
    }
}

impl Collector for MetricsSnapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let plugins: Vec<PluginRow<'_>> =
            self.generation.plugins().map(|plugin| PluginRow::from(&**plugin)).collect();
        self.write(&mut MetricWriter(encoder), &plugins)
    }
}

impl MetricsSnapshot {
    fn write(&self, out: &mut MetricWriter<'_>, plugins: &[PluginRow<'_>]) -> Result<(), Error> {
        self.write_http(out)?;
        self.write_service(out)?;
        self.write_store(out)?;
        self.write_plugins(out, plugins)?;
        write_observers(out, plugins)?;
        write_mid_call(out, plugins)?;
        guest_metrics::encode(out, &self.generation)
    }

    fn write_http(&self, out: &mut MetricWriter<'_>) -> Result<(), Error> {
        out.write_family("http_requests", "HTTP responses by listener and status", Counter, |row| {
            for (listener, statuses) in
                [("webhooks", &self.http.webhooks), ("admin", &self.http.admin)]
            {
                for (status, count) in statuses.nonzero_counts() {
                    row.write_counter(
                        &[("listener", listener), ("status", &status.to_string())],
                        count,
                    )?;
                }
            }
            Ok(())
        })
    }

    fn write_service(&self, out: &mut MetricWriter<'_>) -> Result<(), Error> {
        let generation = self.generation.number;
        let help = "Number of the serving generation of plugins";
        out.write_single("generation", help, Gauge, generation)?;
        let (instances, used) = (self.engine.instances, self.engine.used);
        let help = "Plugin instances that can run at the same time (engine.instances)";
        out.write_single("pool_instances", help, Gauge, instances)?;
        out.write_single("pool_instances_used", "Plugin instances that are running", Gauge, used)?;
        let Some(cache) = &self.cache else { return Ok(()) };
        let help = "Entries of the decision cache, approximately";
        out.write_single("cache_entries", help, Gauge, cache.entries)?;
        let help = "Memory of the decision cache, approximately";
        out.write_single("cache_bytes", help, Gauge, cache.bytes)?;
        let help = "Entries evicted from the decision cache before their expiry";
        out.write_single("cache_evictions", help, Counter, cache.evictions)?;
        let help = "Verdicts that were not cached because of their size or vary limits";
        out.write_single("cache_uncacheable", help, Counter, cache.uncacheable)
    }

    fn write_store(&self, out: &mut MetricWriter<'_>) -> Result<(), Error> {
        let help = "Events, by result of their acceptance";
        out.write_family("events", help, Counter, |row| {
            self.events
                .iter()
                .try_for_each(|(result, count)| row.write_counter(&[("result", result)], *count))
        })?;
        out.write_family(
            "observer_lag_events",
            "Events that an observer has not processed yet, approximately",
            Gauge,
            |row| {
                self.consumer_lags.iter().try_for_each(|(name, lag)| {
                    row.write_gauge(&[("plugin", escape_label_value(name).as_str())], *lag)
                })
            },
        )?;
        let store::StoreStats { events, bytes, total_bytes, expired, .. } = self.store;
        out.write_single("journal_events", "Events in the journal", Gauge, events)?;
        let help = "Size of events and dead letters (limit: journal.max_size)";
        out.write_single("journal_bytes", help, Gauge, bytes)?;
        out.write_single("store_bytes", "Size of the store's files", Gauge, total_bytes)?;
        out.write_single(
            "store_up",
            "1 if the store is available, else 0",
            Gauge,
            u64::from(self.is_store_up),
        )?;
        let help = "Events that were removed unprocessed after journal.max_age";
        out.write_single("events_expired", help, Counter, expired)
    }

    fn write_plugins(
        &self,
        out: &mut MetricWriter<'_>,
        plugins: &[PluginRow<'_>],
    ) -> Result<(), Error> {
        let help = "Verdicts of plugins, by outcome and source";
        out.write_family("plugin_decisions", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                for (source, decisions) in
                    [("plugin", stats.plugin_verdicts), ("cache", stats.cached_verdicts)]
                {
                    let VerdictCounts { pass, route, reject } = decisions;
                    for (outcome, count) in [("pass", pass), ("route", route), ("reject", reject)] {
                        let labels =
                            [("plugin", name.as_str()), ("source", source), ("outcome", outcome)];
                        row.write_counter(&labels, count)?;
                    }
                }
            }
            Ok(())
        })?;
        out.write_family(
            "plugin_failures",
            "Failed calls of a plugin, by label of the error",
            Counter,
            |row| {
                for PluginRow { name, stats, .. } in plugins {
                    for (error, count) in &stats.failures {
                        row.write_counter(&[("plugin", name), ("error", error)], *count)?;
                    }
                }
                Ok(())
            },
        )?;
        let help = "Lookups in the decision cache, by result";
        out.write_family("cache_requests", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                let VerdictCounts { pass, route, reject } = stats.cached_verdicts;
                row.write_counter(&[("plugin", name), ("result", "hit")], pass + route + reject)?;
                row.write_counter(&[("plugin", name), ("result", "miss")], stats.cache_misses)?;
            }
            Ok(())
        })?;
        let help = "Decisions for which the open circuit breaker skipped the plugin";
        out.write_family("plugin_calls_short_circuited", help, Counter, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_counter(&[("plugin", &plugin.name)], plugin.stats.short_circuited)
            })
        })?;
        let help = "1 if a circuit breaker of the plugin is open or half-open, else 0";
        out.write_family("plugin_circuit_open", help, Gauge, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_gauge(&[("plugin", &plugin.name)], u64::from(plugin.is_circuit_open))
            })
        })?;
        let help = "1 if the plugin's version in the folder could not be loaded, else 0";
        out.write_family("plugin_load_failing", help, Gauge, |row| {
            self.generation.entries.iter().try_for_each(|entry| {
                let name = escape_label_value(&entry.name);
                row.write_gauge(&[("plugin", name.as_str())], u64::from(entry.error.is_some()))
            })
        })?;
        let help = "Duration of a plugin's decisions, with the wait for an instance";
        out.write_family("plugin_call_duration_seconds", help, Histogram, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_histogram(&[("plugin", &plugin.name)], &plugin.stats.latency)
            })
        })?;
        let help = "Host calls of a plugin that failed, by capability and error";
        out.write_family("plugin_host_call_errors", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                for ((capability, error), count) in &stats.host_call_errors {
                    let labels =
                        [("plugin", name.as_str()), ("capability", *capability), ("error", *error)];
                    row.write_counter(&labels, *count)?;
                }
            }
            Ok(())
        })
    }
}

/// Returns the event counters by the value of the label.
pub(super) fn event_counts(counts: &EventCounters) -> [(&'static str, u64); 6] {
    let EventCounters { accepted, unsubscribed, duplicate, rejected, deferred, dropped } = counts;
    [
        ("accepted", accepted),
        ("unsubscribed", unsubscribed),
        ("duplicate", duplicate),
        ("rejected", rejected),
        ("deferred", deferred),
        ("dropped", dropped),
    ]
    .map(|(result, count)| (result, count.load(Relaxed)))
}

/// A plugin with a snapshot of its statistics.
struct PluginRow<'a> {
    name: String,
    hooks: &'a [Hook],
    stats: StatsSnapshot,
    is_circuit_open: bool,
}

impl<'a> From<&'a Plugin> for PluginRow<'a> {
    fn from(plugin: &'a Plugin) -> Self {
        Self {
            name: escape_label_value(plugin.name()),
            hooks: plugin.hooks(),
            stats: plugin.stats(),
            is_circuit_open: plugin.is_circuit_open(Instant::now()),
        }
    }
}

impl PluginRow<'_> {
    /// Returns the statistics of an observer, with the plugin's name.
    fn events(&self) -> Option<(&str, &EventStatsSnapshot)> {
        self.hooks.contains(&Hook::Observer).then_some((&*self.name, &self.stats.events))
    }

    /// Returns the statistics by mid-call hook, for the hooks that the plugin exports.
    fn mid_call(&self) -> impl Iterator<Item = (&str, &'static str, &MidCallStatsSnapshot)> {
        [(Hook::Tools, &self.stats.tools), (Hook::Transfers, &self.stats.transfers)]
            .into_iter()
            .filter(|(hook, _)| self.hooks.contains(hook))
            .map(|(hook, stats)| (&*self.name, hook.interface(), stats))
    }
}

fn write_observers(out: &mut MetricWriter<'_>, plugins: &[PluginRow<'_>]) -> Result<(), Error> {
    let observers = || plugins.iter().filter_map(PluginRow::events);
    let help = "Attempts to deliver an event to an observer, by result";
    out.write_family("observer_deliveries", help, Counter, |row| {
        observers().try_for_each(|(name, events)| {
            for (result, count) in [("delivered", events.delivered), ("failed", events.failed)] {
                row.write_counter(&[("plugin", name), ("result", result)], count)?;
            }
            Ok(())
        })
    })?;
    out.write_family("observer_dead_letters", "Events that became dead letters", Counter, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_counter(&[("plugin", name)], events.dead_lettered)
        })
    })?;
    let help = "Duration of an observer's calls";
    out.write_family("observer_call_duration_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_histogram(&[("plugin", name)], &events.latency)
        })
    })?;
    let help = "Time from the acceptance of an event to its acknowledgement by an observer";
    out.write_family("observer_delivery_latency_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_histogram(&[("plugin", name)], &events.delivery_latency)
        })
    })
}

fn write_mid_call(out: &mut MetricWriter<'_>, plugins: &[PluginRow<'_>]) -> Result<(), Error> {
    let uses = || plugins.iter().flat_map(PluginRow::mid_call);
    let help = "Tool and transfer requests to a plugin, by result";
    out.write_family("plugin_mid_call_requests", help, Counter, |row| {
        uses().try_for_each(|(name, hook, uses)| {
            for (result, count) in [
                ("answered", uses.answered),
                ("declined", uses.declined),
                ("failed", uses.failed),
                ("cached", uses.cached),
            ] {
                let labels = [("plugin", name), ("hook", hook), ("result", result)];
                row.write_counter(&labels, count)?;
            }
            Ok(())
        })
    })?;
    let help = "Duration of a plugin's tool and transfer calls";
    out.write_family("plugin_mid_call_duration_seconds", help, Histogram, |row| {
        uses().try_for_each(|(name, hook, uses)| {
            row.write_histogram(&[("plugin", name), ("hook", hook)], &uses.latency)
        })
    })
}
