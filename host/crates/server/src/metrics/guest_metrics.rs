//! Metrics of plugins. The name of a metric contains the plugin's name, so that names never
//! collide.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::mem::discriminant;

use prometheus_client::metrics::MetricType;

use super::writer::{MetricWriter, escape_label_value};
use plugboard_registry::Generation;
use plugboard_runtime::capability::metrics::{BUCKETS, Metric, MetricLabels};

/// Encodes the metrics of every plugin.
pub(super) fn encode(out: &mut MetricWriter<'_>, generation: &Generation) -> Result<(), Error> {
    // Two plugin names can map to the same metric name. Their rows differ in the `plugin`
    // label; the first one determines the type.
    let mut families: BTreeMap<String, Vec<(String, MetricLabels, Metric)>> = BTreeMap::new();
    for plugin in generation.plugins() {
        for (name, series) in plugin.guest_metrics().snapshot() {
            let rows = families
                .entry(format!("guest_{}_{name}", metric_name_part(plugin.name())))
                .or_default();
            for (labels, metric) in series {
                let kind = rows.first().map(|(_, _, first)| discriminant(first));
                if kind.is_none_or(|kind| kind == discriminant(&metric)) {
                    rows.push((escape_label_value(plugin.name()), labels, metric));
                }
            }
        }
    }
    for (family, rows) in families {
        let kind = match rows.first() {
            Some((_, _, Metric::Histogram { .. })) => MetricType::Histogram,
            _ => MetricType::Counter,
        };
        out.write_family(&family, "A custom metric of a plugin", kind, |row| {
            for (plugin, labels, metric) in &rows {
                let values: Vec<(&str, String)> = labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), escape_label_value(value)))
                    .collect();
                let labels: Vec<(&str, &str)> = std::iter::once(("plugin", plugin.as_str()))
                    .chain(values.iter().map(|(name, value)| (*name, value.as_str())))
                    .collect();
                match metric {
                    Metric::Counter(sum) => row.write_counter(&labels, *sum)?,
                    Metric::Histogram { buckets, sum } => {
                        let bounds = BUCKETS.into_iter().chain([f64::MAX]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(*buckets).collect();
                        row.write_buckets(&labels, *sum, &buckets)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Returns a plugin name as part of a metric name.
fn metric_name_part(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
