//! Figures of a plugin's own, for the operator's monitoring: counters and
//! histograms under its name, by grant only, and not without bound. They go on
//! across versions of the plugin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

/// Series (a name with its labels) of one plugin.
const MOST_SERIES: usize = 200;

/// Labels of one series.
const MOST_LABELS: usize = 8;

/// Bytes of a name, and of a label's value.
const LONGEST: usize = 64;

/// Upper bounds of histograms. In seconds, from a millisecond to an hour; as
/// counts, from one to some thousand.
pub const BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1_800.0,
    3_600.0,
];

/// Labels with their values, in order.
pub type Labels = Vec<(String, String)>;

/// Why a figure does not count.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MetricsError {
    /// The settings say nothing of it.
    #[error("not granted; the operator can set `grants.metrics = true` in the plugin's settings")]
    NotGranted,
    /// The name or a label is no good.
    #[error("{0}")]
    Invalid(String),
    /// There are too many.
    #[error("the plugin has {MOST_SERIES} different figures, and may not have more")]
    TooMany,
}

impl MetricsError {
    /// The word for metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotGranted => "not_granted",
            Self::Invalid(_) => "invalid",
            Self::TooMany => "too_many",
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// The sum so far.
    Counter(u64),
    /// The values so far.
    Histogram {
        /// How many are within each of [`BUCKETS`] and above the one before; the
        /// last is for those above all.
        buckets: [u64; BUCKETS.len() + 1],
        /// Of all values.
        sum: f64,
    },
}

/// The figures of the plugins of one name.
#[derive(Debug, Default)]
pub struct Figures {
    // By name, then by labels. A plugin's own calls are all that ever wait here.
    series: Mutex<BTreeMap<String, BTreeMap<Labels, Figure>>>,
}

impl Figures {
    /// Adds to a counter.
    ///
    /// # Errors
    ///
    /// When the name or a label is no good, or there are too many.
    pub fn count(&self, name: String, labels: Labels, by: u64) -> Result<(), MetricsError> {
        self.with(name, labels, Figure::Counter(0), |figure| {
            if let Figure::Counter(sum) = figure {
                *sum = sum.saturating_add(by);
            }
        })
    }

    /// Adds a value to a histogram.
    ///
    /// # Errors
    ///
    /// As [`Figures::count`], and when the value is no number.
    pub fn observe(&self, name: String, labels: Labels, value: f64) -> Result<(), MetricsError> {
        if !value.is_finite() {
            return Err(MetricsError::Invalid(format!("{value} is no number")));
        }
        let new = Figure::Histogram { buckets: [0; BUCKETS.len() + 1], sum: 0.0 };
        self.with(name, labels, new, |figure| {
            if let Figure::Histogram { buckets, sum } = figure {
                let bucket = BUCKETS.partition_point(|bound| *bound < value);
                if let Some(count) = buckets.get_mut(bucket) {
                    *count += 1;
                }
                *sum += value;
            }
        })
    }

    /// All figures now, by name.
    pub fn snapshot(&self) -> BTreeMap<String, BTreeMap<Labels, Figure>> {
        self.lock().clone()
    }

    fn with(
        &self,
        name: String,
        mut labels: Labels,
        new: Figure,
        add: impl FnOnce(&mut Figure),
    ) -> Result<(), MetricsError> {
        check_name("name", &name)?;
        if labels.len() > MOST_LABELS {
            let message = format!("{} labels; there may be {MOST_LABELS}", labels.len());
            return Err(MetricsError::Invalid(message));
        }
        for (label, value) in &labels {
            check_name("label", label)?;
            // Ours in every series, and the histograms' own.
            let taken = label == "plugin" || label == "le" || label.starts_with("__");
            if taken || value.len() > LONGEST {
                return Err(MetricsError::Invalid(format!(
                    "label {label}: `plugin`, `le` and `__...` are taken, and a value may have \
                     {LONGEST} bytes"
                )));
            }
        }
        labels.sort_unstable();
        if labels.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
            return Err(MetricsError::Invalid("a label is there twice".to_owned()));
        }
        let mut series = self.lock();
        let count: usize = series.values().map(BTreeMap::len).sum();
        let is_new = series.get(&name).is_none_or(|figures| !figures.contains_key(&labels));
        if is_new && count >= MOST_SERIES {
            return Err(MetricsError::TooMany);
        }
        let kind = std::mem::discriminant(&new);
        let figures = series.entry(name).or_default();
        if figures.values().next().is_some_and(|other| std::mem::discriminant(other) != kind) {
            let message = "the name is that of the other kind of figure".to_owned();
            return Err(MetricsError::Invalid(message));
        }
        add(figures.entry(labels).or_insert(new));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<Labels, Figure>>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The figures of one plugin, if it may have any.
#[derive(Clone)]
pub struct Metrics(pub Option<Arc<Figures>>);

impl Metrics {
    /// The figures.
    ///
    /// # Errors
    ///
    /// When they are not granted.
    pub fn granted(&self) -> Result<&Figures, MetricsError> {
        self.0.as_deref().ok_or(MetricsError::NotGranted)
    }
}

fn check_name(what: &str, name: &str) -> Result<(), MetricsError> {
    let good = |(place, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => true,
        b'0'..=b'9' => place > 0,
        _ => false,
    };
    if (1..=LONGEST).contains(&name.len()) && name.bytes().enumerate().all(good) {
        return Ok(());
    }
    Err(MetricsError::Invalid(format!(
        "a {what} is [a-zA-Z_][a-zA-Z0-9_]*, {LONGEST} bytes at the most"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_counted_by_name_and_labels() {
        let figures = Figures::default();
        let labels = |value: &str| vec![("platform".to_owned(), value.to_owned())];
        figures.count("calls".into(), labels("avr"), 2).unwrap();
        figures.count("calls".into(), labels("avr"), 1).unwrap();
        figures.count("calls".into(), labels("dsai"), 1).unwrap();
        figures.observe("seconds".into(), Labels::new(), 0.7).unwrap();
        let seen = figures.snapshot();
        assert_eq!(seen["calls"][&labels("avr")], Figure::Counter(3));
        let Figure::Histogram { buckets, sum } = &seen["seconds"][&Labels::new()] else { panic!() };
        assert_eq!((buckets[6], *sum), (1, 0.7));
    }

    #[test]
    fn what_is_no_name_or_too_much_is_refused() {
        let figures = Figures::default();
        for name in ["", "1a", "a-b", "a b", &"a".repeat(LONGEST + 1)] {
            let error = figures.count(name.into(), Labels::new(), 1).unwrap_err();
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
            assert_eq!(figures.count("n".into(), bad, 1).unwrap_err().label(), "invalid");
        }
        figures.count("n".into(), Labels::new(), 1).unwrap();
        assert_eq!(figures.observe("n".into(), label("x"), 1.0).unwrap_err().label(), "invalid");
        assert_eq!(
            figures.observe("m".into(), label("x"), f64::NAN).unwrap_err().label(),
            "invalid"
        );
        for nth in 1..MOST_SERIES {
            figures.count("n".into(), vec![("k".into(), nth.to_string())], 1).unwrap();
        }
        assert_eq!(figures.count("n".into(), label("x"), 1), Err(MetricsError::TooMany));
        figures.count("n".into(), Labels::new(), 1).unwrap();
    }
}
