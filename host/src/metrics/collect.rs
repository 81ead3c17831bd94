//! What is read when the metrics are asked for.

use std::fmt::{self, Error};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Histogram};
use tokio::time::Instant;

use super::Http;
use crate::cache;
use crate::engine;
use crate::plugin::breaker::Condition;
use crate::plugin::stats::{BUCKETS_US, Decisions, Snapshot};
use crate::registry::Generation;

/// The figures of one moment.
pub(super) struct Collect {
    pub(super) engine: engine::Figures,
    pub(super) cache: Option<cache::Figures>,
    pub(super) http: Arc<Http>,
    pub(super) generation: Arc<Generation>,
}

impl fmt::Debug for Collect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect").finish_non_exhaustive()
    }
}

impl Collector for Collect {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(encoder);
        self.http(&mut out)?;
        self.service(&mut out)?;
        self.plugins(&mut out)
    }
}

impl Collect {
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

    fn plugins(&self, out: &mut Out<'_>) -> Result<(), Error> {
        let plugins: Vec<(String, Snapshot, Condition)> = self
            .generation
            .chain()
            .iter()
            .map(|plugin| {
                let condition = plugin.breaker.condition(Instant::now());
                (escaped(plugin.name()), plugin.stats.snapshot(), condition)
            })
            .collect();
        let help = "Words of plugins by verdict and where they came from";
        out.family("plugin_decisions", help, Counter, |row| {
            for (name, seen, _) in &plugins {
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
            for (name, seen, _) in &plugins {
                for (error, count) in &seen.failures {
                    row.counter(&[("plugin", name), ("error", error)], *count)?;
                }
            }
            Ok(())
        })?;
        let help = "Verdicts of a plugin that the cache had or did not have";
        out.family("cache_requests", help, Counter, |row| {
            for (name, seen, _) in &plugins {
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
                .try_for_each(|(name, seen, _)| row.counter(&[("plugin", name)], seen.set_aside))
        })?;
        out.family("plugin_set_aside", "Whether a plugin is set aside", Gauge, |row| {
            plugins.iter().try_for_each(|(name, _, condition)| {
                row.gauge(&[("plugin", name)], u64::from(*condition != Condition::Closed))
            })
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
            plugins.iter().try_for_each(|(name, seen, _)| row.histogram(&[("plugin", name)], seen))
        })
    }
}

/// Writes families.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn family(
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
struct Rows<'a>(MetricEncoder<'a>);

impl Rows<'_> {
    fn counter(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn gauge(&mut self, labels: &[(&str, &str)], value: u64) -> Result<(), Error> {
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_gauge(&signed(value))
    }

    fn histogram(&mut self, labels: &[(&str, &str)], seen: &Snapshot) -> Result<(), Error> {
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(seen.buckets).collect();
        let sum = seen.total_us as f64 / 1e6;
        let labels = Labels(labels);
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
            sum,
            seen.calls(),
            &buckets,
            None,
        )
    }
}

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
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
