//! Metrics capability: custom counters and histograms of a plugin, by grant, limited in
//! number. A new version of the plugin continues them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

/// Maximum number of series (a name with its labels) of one plugin.
const MOST_SERIES: usize = 200;

/// Maximum number of labels of one series.
const MOST_LABELS: usize = 8;

/// Longest name, and longest value of a label, in bytes.
const LONGEST: usize = 64;

/// Upper bounds of the buckets of a histogram. As seconds, they range from a millisecond to
/// an hour; as counts, from one to several thousand.
pub const BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0,
    3_600.0,
];

/// Labels with their values, sorted by name.
pub type MetricLabels = Vec<(String, String)>;

/// Error of counting or observing a metric.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MetricsError {
    /// The settings do not grant the capability.
    #[error("not granted; the operator can set `grants.metrics = true` in the plugin's settings")]
    NotGranted,
    /// The name, a label or the value is invalid.
    #[error("{0}")]
    Invalid(String),
    /// The plugin has reached its maximum of series.
    #[error("the plugin has reached its maximum of {MOST_SERIES} series")]
    TooMany,
}

impl MetricsError {
    /// Returns the label for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotGranted => "not_granted",
            Self::Invalid(_) => "invalid",
            Self::TooMany => "too_many",
        }
    }
}

/// Value of one series.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Sum of all counts.
    Counter(u64),
    /// Distribution of all observed values.
    Histogram {
        /// Number of values in each bucket of [`BUCKETS`], not cumulative; the last bucket has
        /// the values above all bounds.
        buckets: [u64; BUCKETS.len() + 1],
        /// Sum of all observed values.
        sum: f64,
    },
}

/// Custom metrics of the plugins of one name.
#[derive(Debug, Default)]
pub struct GuestMetrics {
    // By name, then by labels. Only calls of the same plugin contend for this lock.
    series: Mutex<BTreeMap<String, BTreeMap<MetricLabels, Metric>>>,
}

impl GuestMetrics {
    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// Fails if the name or a label is invalid, or beyond the maximum of series.
    pub fn count(&self, name: String, labels: MetricLabels, by: u64) -> Result<(), MetricsError> {
        self.update(name, labels, Metric::Counter(0), |metric| {
            if let Metric::Counter(sum) = metric {
                *sum = sum.saturating_add(by);
            }
        })
    }

    /// Adds a value to a histogram.
    ///
    /// # Errors
    ///
    /// Fails as [`GuestMetrics::count`] does, and if the value is not a finite number.
    pub fn observe(
        &self,
        name: String,
        labels: MetricLabels,
        value: f64,
    ) -> Result<(), MetricsError> {
        if !value.is_finite() {
            return Err(MetricsError::Invalid(format!("{value} is not a number")));
        }
        let new = Metric::Histogram { buckets: [0; BUCKETS.len() + 1], sum: 0.0 };
        self.update(name, labels, new, |metric| {
            if let Metric::Histogram { buckets, sum } = metric {
                let bucket = BUCKETS.partition_point(|bound| *bound < value);
                if let Some(count) = buckets.get_mut(bucket) {
                    *count += 1;
                }
                *sum += value;
            }
        })
    }

    /// Returns the current metrics, by name.
    pub fn snapshot(&self) -> BTreeMap<String, BTreeMap<MetricLabels, Metric>> {
        self.series.lock().clone()
    }

    fn update(
        &self,
        name: String,
        mut labels: MetricLabels,
        new: Metric,
        add: impl FnOnce(&mut Metric),
    ) -> Result<(), MetricsError> {
        check_name("name", &name)?;
        if labels.len() > MOST_LABELS {
            let message = format!("{} labels; expected at most {MOST_LABELS}", labels.len());
            return Err(MetricsError::Invalid(message));
        }
        for (label, value) in &labels {
            check_name("label", label)?;
            // The host adds `plugin` to every series, and `le` to histograms.
            let taken = label == "plugin" || label == "le" || label.starts_with("__");
            if taken || value.len() > LONGEST {
                return Err(MetricsError::Invalid(format!(
                    "label {label}: `plugin`, `le` and `__...` are reserved, and a value has at \
                     most {LONGEST} bytes"
                )));
            }
        }
        labels.sort_unstable();
        if labels.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
            return Err(MetricsError::Invalid("a label occurs twice".to_owned()));
        }
        let mut series = self.series.lock();
        let series_count: usize = series.values().map(BTreeMap::len).sum();
        let is_new = series.get(&name).is_none_or(|by_labels| !by_labels.contains_key(&labels));
        if is_new && series_count >= MOST_SERIES {
            return Err(MetricsError::TooMany);
        }
        let kind = std::mem::discriminant(&new);
        let by_labels = series.entry(name).or_default();
        if by_labels.values().next().is_some_and(|other| std::mem::discriminant(other) != kind) {
            let message = "the name already belongs to a metric of another type".to_owned();
            return Err(MetricsError::Invalid(message));
        }
        add(by_labels.entry(labels).or_insert(new));
        Ok(())
    }
}

/// Custom metrics of one plugin, if the settings grant them.
#[derive(Clone)]
pub struct MetricsCapability(pub Option<Arc<GuestMetrics>>);

impl MetricsCapability {
    /// Returns the custom metrics of the plugin.
    ///
    /// # Errors
    ///
    /// Fails if the settings do not grant them.
    pub fn get(&self) -> Result<&GuestMetrics, MetricsError> {
        self.0.as_deref().ok_or(MetricsError::NotGranted)
    }
}

fn check_name(what: &str, name: &str) -> Result<(), MetricsError> {
    let is_valid = |(index, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
        b'0'..=b'9' => index > 0,
        _ => false,
    };
    if (1..=LONGEST).contains(&name.len()) && name.bytes().enumerate().all(is_valid) {
        return Ok(());
    }
    Err(MetricsError::Invalid(format!(
        "a {what} must match [a-zA-Z_][a-zA-Z0-9_]* and have at most {LONGEST} bytes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_counted_by_name_and_labels() {
        let metrics = GuestMetrics::default();
        let labels = |value: &str| vec![("platform".to_owned(), value.to_owned())];
        metrics.count("calls".into(), labels("avr"), 2).unwrap();
        metrics.count("calls".into(), labels("avr"), 1).unwrap();
        metrics.count("calls".into(), labels("dsai"), 1).unwrap();
        metrics.observe("seconds".into(), MetricLabels::new(), 0.7).unwrap();
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot["calls"][&labels("avr")], Metric::Counter(3));
        let Metric::Histogram { buckets, sum } = &snapshot["seconds"][&MetricLabels::new()] else {
            panic!()
        };
        assert_eq!((buckets[6], *sum), (1, 0.7));
    }

    #[test]
    fn invalid_names_and_excess_series_are_rejected() {
        let metrics = GuestMetrics::default();
        for name in ["", "1a", "a-b", "a b", &"a".repeat(LONGEST + 1)] {
            let error = metrics.count(name.into(), MetricLabels::new(), 1).unwrap_err();
            assert_eq!(error.label(), "invalid", "{name}");
        }
        let label = |name: &str| vec![(name.to_owned(), "v".to_owned())];
        for bad in [
            label("le"),
            label("plugin"),
            label("__name__"),
            label("a b"),
            [label("a"), label("a")].concat(),
        ] {
            assert_eq!(metrics.count("n".into(), bad, 1).unwrap_err().label(), "invalid");
        }
        metrics.count("n".into(), MetricLabels::new(), 1).unwrap();
        assert_eq!(metrics.observe("n".into(), label("x"), 1.0).unwrap_err().label(), "invalid");
        assert_eq!(
            metrics.observe("m".into(), label("x"), f64::NAN).unwrap_err().label(),
            "invalid"
        );
        for nth in 1..MOST_SERIES {
            metrics.count("n".into(), vec![("k".into(), nth.to_string())], 1).unwrap();
        }
        assert_eq!(metrics.count("n".into(), label("x"), 1), Err(MetricsError::TooMany));
        metrics.count("n".into(), MetricLabels::new(), 1).unwrap();
    }
}
