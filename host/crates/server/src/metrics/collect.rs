//! The snapshot of the services that a scrape encodes.

#[doc(hidden)]
pub mod sample;

use std::fmt::{self, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use tokio::time::Instant;

use super::{HttpCounters, guest_metrics};
use plugboard_events::journal::EventCounters;
use plugboard_registry::Generation;
use plugboard_routing::cache;
use plugboard_runtime::engine;
use plugboard_runtime::plugin::histogram::{BUCKETS_US, HistogramSnapshot};
use plugboard_runtime::plugin::stats::{
    EventStatsSnapshot, MidCallStatsSnapshot, StatsSnapshot, VerdictCounts,
};
use plugboard_runtime::plugin::{Hook, Plugin};
use plugboard_store as store;

/// The values of one moment.
pub(super) struct MetricsSnapshot {
    pub(super) engine: engine::EngineStats,
    pub(super) cache: Option<cache::CacheStats>,
    pub(super) http: Arc<HttpCounters>,
    pub(super) generation: Arc<Generation>,
    /// Events by result.
    pub(super) events: [(&'static str, u64); 6],
    pub(super) store: store::StoreStats,
    /// The lag of every observer, whether its plugin serves or not.
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
        out.write_family("http_requests", "Answers by listener and status", Counter, |row| {
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
        out.write_single("generation", "Number of the plugins' generation", Gauge, generation)?;
        let (instances, used) = (self.engine.instances, self.engine.used);
        out.write_single(
            "pool_instances",
            "Instances that the pool has room for",
            Gauge,
            instances,
        )?;
        out.write_single("pool_instances_used", "Instances in use", Gauge, used)?;
        let Some(cache) = &self.cache else { return Ok(()) };
        out.write_single("cache_entries", "Verdicts in the cache, roughly", Gauge, cache.entries)?;
        out.write_single("cache_bytes", "Memory of the cache, roughly", Gauge, cache.bytes)?;
        let help = "Verdicts that had to go before their time";
        out.write_single("cache_evictions", help, Counter, cache.evictions)?;
        let help = "Verdicts that were too varied or long to be kept";
        out.write_single("cache_refusals", help, Counter, cache.uncacheable)
    }

    fn write_store(&self, out: &mut MetricWriter<'_>) -> Result<(), Error> {
        let help = "Events that came, by what became of them";
        out.write_family("events", help, Counter, |row| {
            self.events
                .iter()
                .try_for_each(|(result, count)| row.write_counter(&[("result", result)], *count))
        })?;
        out.write_family(
            "observer_backlog",
            "Events that wait for an observer, roughly",
            Gauge,
            |row| {
                self.consumer_lags.iter().try_for_each(|(name, backlog)| {
                    row.write_gauge(&[("plugin", escape_label_value(name).as_str())], *backlog)
                })
            },
        )?;
        let store::StoreStats { events, bytes, total_bytes, expired, .. } = self.store;
        out.write_single("journal_events", "Events in the journal", Gauge, events)?;
        let help = "Bytes of events and dead letters (journal.max_size)";
        out.write_single("journal_bytes", help, Gauge, bytes)?;
        out.write_single("store_bytes", "Bytes of the store", Gauge, total_bytes)?;
        out.write_single(
            "store_up",
            "Whether the store can be used",
            Gauge,
            u64::from(self.is_store_up),
        )?;
        let help = "Events that waited for longer than journal.max_age and were given up";
        out.write_single("events_expired", help, Counter, expired)
    }

    fn write_plugins(
        &self,
        out: &mut MetricWriter<'_>,
        plugins: &[PluginRow<'_>],
    ) -> Result<(), Error> {
        let help = "Words of plugins by verdict and where they came from";
        out.write_family("plugin_decisions", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                for (source, decisions) in
                    [("ran", stats.plugin_verdicts), ("cached", stats.cached_verdicts)]
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
            "Calls that a plugin failed, by label",
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
        let help = "Verdicts of a plugin that the cache had or did not have";
        out.write_family("cache_requests", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                let VerdictCounts { pass, route, reject } = stats.cached_verdicts;
                row.write_counter(&[("plugin", name), ("result", "hit")], pass + route + reject)?;
                row.write_counter(&[("plugin", name), ("result", "miss")], stats.cache_misses)?;
            }
            Ok(())
        })?;
        let help = "Calls that a plugin was not asked about because it kept failing";
        out.write_family("plugin_calls_set_aside", help, Counter, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_counter(&[("plugin", &plugin.name)], plugin.stats.short_circuited)
            })
        })?;
        out.write_family("plugin_set_aside", "Whether a plugin is set aside", Gauge, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_gauge(&[("plugin", &plugin.name)], u64::from(plugin.is_circuit_open))
            })
        })?;
        let help = "Whether another version of a plugin should serve, and could not be loaded";
        out.write_family("plugin_load_failing", help, Gauge, |row| {
            self.generation.entries.iter().try_for_each(|entry| {
                let name = escape_label_value(&entry.name);
                row.write_gauge(&[("plugin", name.as_str())], u64::from(entry.error.is_some()))
            })
        })?;
        let help = "Time of a plugin's calls, waiting for a free instance included";
        out.write_family("plugin_call_duration_seconds", help, Histogram, |row| {
            plugins.iter().try_for_each(|plugin| {
                row.write_histogram(&[("plugin", &plugin.name)], &plugin.stats.latency)
            })
        })?;
        let help = "What a plugin wanted of the host and did not get";
        out.write_family("plugin_refusals", help, Counter, |row| {
            for PluginRow { name, stats, .. } in plugins {
                for ((capability, error), count) in &stats.denials {
                    let labels =
                        [("plugin", name.as_str()), ("capability", *capability), ("error", *error)];
                    row.write_counter(&labels, *count)?;
                }
            }
            Ok(())
        })
    }
}

/// The event counters by the label's value.
pub(super) fn event_counts(counts: &EventCounters) -> [(&'static str, u64); 6] {
    let EventCounters {
        accepted,
        unsubscribed: unwanted,
        duplicate: repeated,
        rejected: refused,
        deferred: owed,
        dropped: lost,
    } = counts;
    [
        ("accepted", accepted),
        ("unwanted", unwanted),
        ("repeated", repeated),
        ("refused", refused),
        ("owed", owed),
        ("lost", lost),
    ]
    .map(|(result, count)| (result, count.load(Relaxed)))
}

/// A plugin with its statistics.
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
    /// Of an observer.
    fn events(&self) -> Option<(&str, &EventStatsSnapshot)> {
        self.hooks.contains(&Hook::Observer).then_some((&*self.name, &self.stats.events))
    }

    /// By the hooks that answer during calls, of those that the plugin exports.
    fn mid_call(&self) -> impl Iterator<Item = (&str, &'static str, &MidCallStatsSnapshot)> {
        [(Hook::Tools, &self.stats.tools), (Hook::Transfers, &self.stats.transfers)]
            .into_iter()
            .filter(|(hook, _)| self.hooks.contains(hook))
            .map(|(hook, stats)| (&*self.name, hook.interface(), stats))
    }
}

fn write_observers(out: &mut MetricWriter<'_>, plugins: &[PluginRow<'_>]) -> Result<(), Error> {
    let observers = || plugins.iter().filter_map(PluginRow::events);
    let help = "Attempts to tell an observer of an event, by what came of them";
    out.write_family("observer_deliveries", help, Counter, |row| {
        observers().try_for_each(|(name, events)| {
            for (result, count) in [("delivered", events.delivered), ("failed", events.failed)] {
                row.write_counter(&[("plugin", name), ("result", result)], count)?;
            }
            Ok(())
        })
    })?;
    out.write_family("observer_dead_letters", "Events that were given up", Counter, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_counter(&[("plugin", name)], events.dead_lettered)
        })
    })?;
    let help = "Time of an observer's calls";
    out.write_family("observer_call_duration_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_histogram(&[("plugin", name)], &events.latency)
        })
    })?;
    let help = "From the acceptance of an event to the moment an observer has taken it";
    out.write_family("observer_delay_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.write_histogram(&[("plugin", name)], &events.delivery_latency)
        })
    })
}

fn write_mid_call(out: &mut MetricWriter<'_>, plugins: &[PluginRow<'_>]) -> Result<(), Error> {
    let uses = || plugins.iter().flat_map(PluginRow::mid_call);
    let help = "Tools used and transfers asked about, by what came of them";
    out.write_family("plugin_uses", help, Counter, |row| {
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
    let help = "Time of a plugin's calls for tools and transfers";
    out.write_family("plugin_use_duration_seconds", help, Histogram, |row| {
        uses().try_for_each(|(name, hook, uses)| {
            row.write_histogram(&[("plugin", name), ("hook", hook)], &uses.latency)
        })
    })
}

/// Encodes metric families.
pub(super) struct MetricWriter<'a>(DescriptorEncoder<'a>);

impl MetricWriter<'_> {
    pub(super) fn write_family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl FnOnce(&mut RowWriter<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        rows(&mut RowWriter(self.0.encode_descriptor(name, help, None, kind)?))
    }

    fn write_single(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: u64,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        match kind {
            Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => metric.encode_gauge(&saturating_i64(value)),
        }
    }
}

/// Encodes the rows of a family.
pub(super) struct RowWriter<'a>(MetricEncoder<'a>);

impl RowWriter<'_> {
    pub(super) fn write_counter(
        &mut self,
        labels: &[(&str, &str)],
        value: u64,
    ) -> Result<(), Error> {
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn write_gauge(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_gauge(&saturating_i64(value))
    }

    fn write_histogram(
        &mut self,
        labels: &[(&str, &str)],
        times: &HistogramSnapshot,
    ) -> Result<(), Error> {
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
        let sum = times.total_us as f64 / 1e6;
        self.write_buckets(labels, sum, &buckets)
    }

    /// Encodes a histogram with bounds of its own.
    pub(super) fn write_buckets(
        &mut self,
        labels: &[(&str, &str)],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> Result<(), Error> {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = EscapedLabels(labels);
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
    }
}

/// Labels with escaped values.
struct EscapedLabels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for EscapedLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        EncodeLabelSet::encode(&self.0, encoder)
    }
}

/// The format's gauges are signed.
fn saturating_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Escapes a label value, which the encoder does not do.
pub(super) fn escape_label_value(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
