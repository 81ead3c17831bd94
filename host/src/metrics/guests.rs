//! Plugins' own figures. Each has its plugin in its name, so that no plugin's
//! words can get in the way of another's or of ours.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::mem::discriminant;

use prometheus_client::metrics::MetricType;

use super::collect::{Out, escaped};
use crate::capability::metrics::{BUCKETS, Figure, Labels};
use crate::registry::Generation;

/// Writes the figures of every plugin.
pub(super) fn encode(out: &mut Out<'_>, generation: &Generation) -> Result<(), Error> {
    // Two plugins can come to the same name once it is one of the format's. Their
    // rows have another `plugin` then; only the kind of figure is the first one's.
    let mut families: BTreeMap<String, Vec<(String, Labels, Figure)>> = BTreeMap::new();
    for plugin in generation.plugins() {
        for (name, series) in plugin.stats.figures.snapshot() {
            let rows = families.entry(format!("guest_{}_{name}", word(plugin.name()))).or_default();
            for (labels, figure) in series {
                let kind = rows.first().map(|(_, _, first)| discriminant(first));
                if kind.is_none_or(|kind| kind == discriminant(&figure)) {
                    rows.push((escaped(plugin.name()), labels, figure));
                }
            }
        }
    }
    for (family, rows) in families {
        let kind = match rows.first() {
            Some((_, _, Figure::Histogram { .. })) => MetricType::Histogram,
            _ => MetricType::Counter,
        };
        out.family(&family, "A figure of a plugin's own", kind, |row| {
            for (plugin, labels, figure) in &rows {
                let values: Vec<(&str, String)> =
                    labels.iter().map(|(name, value)| (name.as_str(), escaped(value))).collect();
                let labels: Vec<(&str, &str)> = std::iter::once(("plugin", plugin.as_str()))
                    .chain(values.iter().map(|(name, value)| (*name, value.as_str())))
                    .collect();
                match figure {
                    Figure::Counter(sum) => row.counter(&labels, *sum)?,
                    Figure::Histogram { buckets, sum } => {
                        let bounds = BUCKETS.into_iter().chain([f64::MAX]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(*buckets).collect();
                        row.distribution(&labels, *sum, &buckets)?;
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A file name as a part of a metric's name.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
