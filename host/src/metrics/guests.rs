//! Plugins' own figures. Each has its plugin in its name, so that no plugin's
//! words can get in the way of another's or of ours.

use std::collections::BTreeMap;
use std::fmt::Error;

use prometheus_client::metrics::MetricType;

use super::collect::{Out, escaped};
use crate::capability::metrics::{BUCKETS, Figure, Labels};
use crate::registry::Generation;

/// Writes the figures of every plugin.
pub(super) fn encode(out: &mut Out<'_>, generation: &Generation) -> Result<(), Error> {
    // Two file names can look alike once they are words of the format; the first
    // has the name then.
    let mut families: BTreeMap<String, (String, BTreeMap<Labels, Figure>)> = BTreeMap::new();
    for plugin in generation.plugins() {
        for (name, series) in plugin.stats.figures.snapshot() {
            let family = format!("guest_{}_{name}", word(plugin.name()));
            families.entry(family).or_insert_with(|| (escaped(plugin.name()), series));
        }
    }
    for (family, (plugin, series)) in families {
        let kind = match series.values().next() {
            Some(Figure::Histogram { .. }) => MetricType::Histogram,
            _ => MetricType::Counter,
        };
        out.family(&family, "A figure of a plugin's own", kind, |row| {
            for (labels, figure) in &series {
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
