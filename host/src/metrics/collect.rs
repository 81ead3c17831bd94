//! What is read when the metrics are asked for.

#[cfg(test)]
pub(crate) mod sample;

use std::fmt::{self, Error};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use tokio::time::Instant;

use super::{Http, guests};
use crate::cache;
use crate::engine;
use crate::journal::Counts;
use crate::plugin::histogram::{BUCKETS_US, Times};
use crate::plugin::stats::{Decisions, EventStats, Snapshot, UseStats};
use crate::plugin::{Hook, Plugin};
use crate::registry::Generation;
use crate::store;

/// The figures of one moment.
pub(super) struct Collect {
    pub(super) engine: engine::Figures,
    pub(super) cache: Option<cache::Figures>,
    pub(super) http: Arc<Http>,
    pub(super) generation: Arc<Generation>,
    /// What became of events that came.
    pub(super) events: [(&'static str, u64); 6],
    pub(super) journal: store::Figures,
    /// Of every observer, whether its plugin serves or not.
    pub(super) backlogs: Vec<(Arc<str>, u64)>,
    pub(super) store_works: bool,
}

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect").finish_non_exhaustive()
    }
}

impl Collector for Collect {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let plugins: Vec<Row<'_>> = self.generation.plugins().map(|it| Row::from(&**it)).collect();
        self.write(&mut Out(encoder), &plugins)
    }
}

impl Collect {
    fn write(&self, out: &mut Out<'_>, plugins: &[Row<'_>]) -> Result<(), Error> {
        self.http(out)?;
        self.service(out)?;
        self.journal(out)?;
        self.plugins(out, plugins)?;
        observers(out, plugins)?;
        uses(out, plugins)?;
        guests::encode(out, &self.generation)
    }

    fn http(&self, out: &mut Out<'_>) -> Result<(), Error> {
        out.family("http_requests", "Answers by listener and status", Counter, |row| {
            for (listener, statuses) in
                [("webhooks", &self.http.webhooks), ("admin", &self.http.admin)]
            {
                for (status, count) in statuses.seen() {
                    row.counter(&[("listener", listener), ("status", &status.to_string())], count)?;
                }
            }
            Ok(())
        })
    }

    fn service(&self, out: &mut Out<'_>) -> Result<(), Error> {
        let generation = self.generation.number;
        out.one("generation", "Number of the plugins' generation", Gauge, generation)?;
        let (instances, used) = (self.engine.instances, self.engine.used);
        out.one("pool_instances", "Instances that the pool has room for", Gauge, instances)?;
        out.one("pool_instances_used", "Instances in use", Gauge, used)?;
        let Some(cache) = &self.cache else { return Ok(()) };
        out.one("cache_entries", "Verdicts in the cache, roughly", Gauge, cache.entries)?;
        out.one("cache_bytes", "Memory of the cache, roughly", Gauge, cache.bytes)?;
        let help = "Verdicts that had to go before their time";
        out.one("cache_evictions", help, Counter, cache.evictions)?;
        let help = "Verdicts that were too varied or long to be kept";
        out.one("cache_refusals", help, Counter, cache.refused)
    }

    fn journal(&self, out: &mut Out<'_>) -> Result<(), Error> {
        let help = "Events that came, by what became of them";
        out.family("events", help, Counter, |row| {
            self.events
                .iter()
                .try_for_each(|(result, count)| row.counter(&[("result", result)], *count))
        })?;
        out.family(
            "observer_backlog",
            "Events that wait for an observer, roughly",
            Gauge,
            |row| {
                self.backlogs.iter().try_for_each(|(name, backlog)| {
                    row.gauge(&[("plugin", escaped(name).as_str())], *backlog)
                })
            },
        )?;
        let store::Figures { events, bytes, total_bytes, expired, .. } = self.journal;
        out.one("journal_events", "Events in the journal", Gauge, events)?;
        let help = "Bytes of events and dead letters (journal.max_size)";
        out.one("journal_bytes", help, Gauge, bytes)?;
        out.one("store_bytes", "Bytes of the store", Gauge, total_bytes)?;
        out.one("store_up", "Whether the store can be used", Gauge, u64::from(self.store_works))?;
        let help = "Events that waited for longer than journal.max_age and were given up";
        out.one("events_expired", help, Counter, expired)
    }

    fn plugins(&self, out: &mut Out<'_>, plugins: &[Row<'_>]) -> Result<(), Error> {
        let help = "Words of plugins by verdict and where they came from";
        out.family("plugin_decisions", help, Counter, |row| {
            for Row { name, seen, .. } in plugins {
                for (source, decisions) in [("ran", seen.ran), ("cached", seen.cached)] {
                    let Decisions { pass, route, reject } = decisions;
                    for (outcome, count) in [("pass", pass), ("route", route), ("reject", reject)] {
                        let labels =
                            [("plugin", name.as_str()), ("source", source), ("outcome", outcome)];
                        row.counter(&labels, count)?;
                    }
                }
            }
            Ok(())
        })?;
        out.family("plugin_failures", "Calls that a plugin failed, by label", Counter, |row| {
            for Row { name, seen, .. } in plugins {
                for (error, count) in &seen.failures {
                    row.counter(&[("plugin", name), ("error", error)], *count)?;
                }
            }
            Ok(())
        })?;
        let help = "Verdicts of a plugin that the cache had or did not have";
        out.family("cache_requests", help, Counter, |row| {
            for Row { name, seen, .. } in plugins {
                let Decisions { pass, route, reject } = seen.cached;
                row.counter(&[("plugin", name), ("result", "hit")], pass + route + reject)?;
                row.counter(&[("plugin", name), ("result", "miss")], seen.misses)?;
            }
            Ok(())
        })?;
        let help = "Calls that a plugin was not asked about because it kept failing";
        out.family("plugin_calls_set_aside", help, Counter, |row| {
            plugins
                .iter()
                .try_for_each(|it| row.counter(&[("plugin", &it.name)], it.seen.set_aside))
        })?;
        out.family("plugin_set_aside", "Whether a plugin is set aside", Gauge, |row| {
            plugins
                .iter()
                .try_for_each(|it| row.gauge(&[("plugin", &it.name)], u64::from(it.is_set_aside)))
        })?;
        let help = "Whether another version of a plugin should serve, and could not be loaded";
        out.family("plugin_load_failing", help, Gauge, |row| {
            self.generation.entries.iter().try_for_each(|entry| {
                let name = escaped(&entry.name);
                row.gauge(&[("plugin", name.as_str())], u64::from(entry.error.is_some()))
            })
        })?;
        let help = "Time of a plugin's calls, waiting for a free instance included";
        out.family("plugin_call_duration_seconds", help, Histogram, |row| {
            plugins.iter().try_for_each(|it| row.histogram(&[("plugin", &it.name)], &it.seen.times))
        })?;
        let help = "What a plugin wanted of the host and did not get";
        out.family("plugin_refusals", help, Counter, |row| {
            for Row { name, seen, .. } in plugins {
                for ((capability, error), count) in &seen.refusals {
                    let labels =
                        [("plugin", name.as_str()), ("capability", *capability), ("error", *error)];
                    row.counter(&labels, *count)?;
                }
            }
            Ok(())
        })
    }
}

/// What became of events, by the words of the metric.
pub(super) fn events(counts: &Counts) -> [(&'static str, u64); 6] {
    let Counts { accepted, unwanted, repeated, refused, owed, lost } = counts;
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

/// A plugin and what it did.
struct Row<'a> {
    name: String,
    seen: Snapshot,
    is_set_aside: bool,
    /// Of an observer.
    events: Option<&'a EventStats>,
    /// Of those that answer in the middle of calls, by hook.
    uses: Vec<(&'static str, &'a UseStats)>,
}

impl<'a> From<&'a Plugin> for Row<'a> {
    fn from(plugin: &'a Plugin) -> Self {
        Self {
            name: escaped(plugin.name()),
            seen: plugin.stats.snapshot(),
            is_set_aside: plugin.is_set_aside(Instant::now()),
            events: plugin.has(Hook::Observer).then_some(&plugin.stats.events),
            uses: [(Hook::Tools, &plugin.stats.tools), (Hook::Transfers, &plugin.stats.transfers)]
                .into_iter()
                .filter(|(hook, _)| plugin.has(*hook))
                .map(|(hook, uses)| (hook.interface(), uses))
                .collect(),
        }
    }
}

fn observers(out: &mut Out<'_>, plugins: &[Row<'_>]) -> Result<(), Error> {
    let observers = || plugins.iter().filter_map(|it| Some((it.name.as_str(), it.events?)));
    let help = "Attempts to tell an observer of an event, by what came of them";
    out.family("observer_deliveries", help, Counter, |row| {
        observers().try_for_each(|(name, events)| {
            let EventStats { delivered, failed, .. } = events;
            for (result, count) in [("delivered", delivered), ("failed", failed)] {
                row.counter(&[("plugin", name), ("result", result)], count.load(Relaxed))?;
            }
            Ok(())
        })
    })?;
    out.family("observer_dead_letters", "Events that were given up", Counter, |row| {
        observers().try_for_each(|(name, events)| {
            row.counter(&[("plugin", name)], events.dead.load(Relaxed))
        })
    })?;
    let help = "Time of an observer's calls";
    out.family("observer_call_duration_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.histogram(&[("plugin", name)], &events.times.snapshot())
        })
    })?;
    let help = "From the acceptance of an event to the moment an observer has taken it";
    out.family("observer_delay_seconds", help, Histogram, |row| {
        observers().try_for_each(|(name, events)| {
            row.histogram(&[("plugin", name)], &events.delays.snapshot())
        })
    })
}

fn uses(out: &mut Out<'_>, plugins: &[Row<'_>]) -> Result<(), Error> {
    let uses = || {
        plugins.iter().flat_map(|it| it.uses.iter().map(|(hook, uses)| (&*it.name, *hook, *uses)))
    };
    let help = "Tools used and transfers asked about, by what came of them";
    out.family("plugin_uses", help, Counter, |row| {
        uses().try_for_each(|(name, hook, uses)| {
            let UseStats { answered, declined, failed, cached, .. } = uses;
            for (result, count) in [
                ("answered", answered),
                ("declined", declined),
                ("failed", failed),
                ("cached", cached),
            ] {
                let labels = [("plugin", name), ("hook", hook), ("result", result)];
                row.counter(&labels, count.load(Relaxed))?;
            }
            Ok(())
        })
    })?;
    let help = "Time of a plugin's calls for tools and transfers";
    out.family("plugin_use_duration_seconds", help, Histogram, |row| {
        uses().try_for_each(|(name, hook, uses)| {
            row.histogram(&[("plugin", name), ("hook", hook)], &uses.times.snapshot())
        })
    })
}

/// Writes families.
pub(super) struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    pub(super) fn family(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        rows: impl FnOnce(&mut Rows<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        rows(&mut Rows(self.0.encode_descriptor(name, help, None, kind)?))
    }

    fn one(&mut self, name: &str, help: &str, kind: MetricType, value: u64) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        match kind {
            Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            _ => metric.encode_gauge(&signed(value)),
        }
    }
}

/// Writes the rows of a family.
pub(super) struct Rows<'a>(MetricEncoder<'a>);

impl Rows<'_> {
    pub(super) fn counter(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_gauge(&signed(value))
    }

    fn histogram(&mut self, labels: &[(&str, &str)], seen: &Times) -> Result<(), Error> {
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(seen.buckets).collect();
        let sum = seen.total_us as f64 / 1e6;
        self.distribution(labels, sum, &buckets)
    }

    /// A histogram with bounds of its own.
    pub(super) fn distribution(
        &mut self,
        labels: &[(&str, &str)],
        sum: f64,
        buckets: &[(f64, u64)],
    ) -> Result<(), Error> {
        let count = buckets.iter().map(|(_, count)| count).sum();
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, buckets, None)
    }
}

/// Labels with their values, the values escaped.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        EncodeLabelSet::encode(&self.0, encoder)
    }
}

/// As the format has it for gauges.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A file's name as the value of a label; the encoder leaves that to us.
pub(super) fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
