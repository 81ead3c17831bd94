//! Statistics of a run, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;

use super::scenario::SimulatedEventKind;
use super::sender::{EventDelivery, SendFailure, SendOutcome};

/// The maximum number of stored latencies. A larger number is sampled uniformly.
const MAX_LATENCY_SAMPLES: usize = 1_000_000;

/// The maximum number of distinct rows of a table. Further rows are counted together.
const MAX_COUNTED_NAMES: usize = 1_000;

/// Maximum length of a row's name, in characters.
const MAX_NAME_CHARS: usize = 100;

/// Name of the row that counts everything without its own row.
const OTHERS_NAME: &str = "others";

/// The statistics of a run.
#[derive(Default)]
pub struct SimulationStats {
    /// Number of calls of which every event was sent.
    pub finished_calls: u64,
    /// Number of events that were sent.
    pub sent: u64,
    /// Number of events that were acknowledged.
    pub acknowledged: u64,
    /// Number of attempts after the first one.
    pub retries: u64,
    /// True if any answer arrived, even an error.
    pub has_response: bool,
    /// Events that were not acknowledged, by reason.
    pub failures: NamedCounts,
    /// Number of acknowledged `call_initiated` events.
    pub decisions: u64,
    /// Number of answers with a URL, by host.
    pub sts_hosts: NamedCounts,
    /// Latencies of acknowledged `call_initiated` events.
    pub decision_latency: LatencySamples,
    /// Latencies of all other acknowledged events.
    pub event_latency: LatencySamples,
}

impl SimulationStats {
    /// Counts an event with its result.
    pub fn record_delivery(&mut self, kind: SimulatedEventKind, delivery: &EventDelivery) {
        self.retries += u64::from(delivery.retries);
        match &delivery.outcome {
            SendOutcome::Acknowledged { sts_url, .. } => {
                self.has_response = true;
                self.acknowledged += 1;
                if kind != SimulatedEventKind::Initiated {
                    self.event_latency.record(delivery.latency);
                    return;
                }
                self.decisions += 1;
                self.decision_latency.record(delivery.latency);
                if let Some(sts_url) = sts_url {
                    self.sts_hosts.increment(sts_host(sts_url));
                }
            }
            SendOutcome::Failed(failure) => {
                self.has_response |= failure.has_response();
                self.failures.increment(failure.to_string());
            }
        }
    }

    /// Returns the reason why the run is useless: no connection ever succeeded.
    pub fn unreachable_cause<'a>(&self, delivery: &'a EventDelivery) -> Option<&'a str> {
        match &delivery.outcome {
            SendOutcome::Failed(SendFailure::NoConnection(cause)) if !self.has_response => {
                Some(cause)
            }
            _ => None,
        }
    }
}

/// Counters by name, in bounded memory.
#[derive(Default)]
pub struct NamedCounts(BTreeMap<String, u64>);

impl NamedCounts {
    /// Adds one to the counter of a name.
    pub fn increment(&mut self, mut name: String) {
        if let Some((end, _)) = name.char_indices().nth(MAX_NAME_CHARS) {
            name.truncate(end);
        }
        if self.0.len() >= MAX_COUNTED_NAMES && !self.0.contains_key(&name) {
            name = OTHERS_NAME.to_owned();
        }
        *self.0.entry(name).or_default() += 1;
    }

    /// Returns the sum of all counters.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the most frequent rows, in descending order, and the rest in one row.
    pub fn top(&self, limit: usize) -> Vec<(String, u64)> {
        let mut rows: Vec<(String, u64)> =
            self.0.iter().map(|(name, count)| (name.clone(), *count)).collect();
        // Stable, so equal counts are sorted by name.
        rows.sort_by_key(|(name, count)| (name == OTHERS_NAME, std::cmp::Reverse(*count)));
        let rest: u64 = rows.iter().skip(limit).map(|(_, count)| count).sum();
        rows.truncate(limit);
        if rest > 0 {
            match rows.last_mut() {
                Some((name, count)) if name == OTHERS_NAME => *count += rest,
                _ => rows.push((OTHERS_NAME.to_owned(), rest)),
            }
        }
        rows
    }
}

/// Latencies: all of them, or a uniform sample.
#[derive(Default)]
pub struct LatencySamples {
    // The stored latencies, in microseconds.
    reservoir: Vec<u32>,
    count: u64,
    sum: u64,
    max: u32,
}

impl LatencySamples {
    /// Adds a latency, or samples it.
    pub fn record(&mut self, latency: Duration) {
        let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.count += 1;
        self.sum += u64::from(latency);
        self.max = self.max.max(latency);
        if self.reservoir.len() < MAX_LATENCY_SAMPLES {
            self.reservoir.push(latency);
        } else if let Some(slot) = usize::try_from(fastrand::u64(..self.count))
            .ok()
            .and_then(|place| self.reservoir.get_mut(place))
        {
            *slot = latency;
        }
    }

    /// Returns the given quantiles (0 to 1, nearest rank), in microseconds; none without
    /// data.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> Option<[u32; N]> {
        let mut sorted = self.reservoir.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(quantiles.map(|quantile| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or_default()
        }))
    }

    /// Returns the maximum, in microseconds.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Returns the mean, in microseconds.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }
}

/// Returns the host of an address, without the rest, which may identify a caller.
fn sts_host(sts_url: &str) -> String {
    let url = Url::parse(sts_url).ok();
    match url.as_ref().and_then(|url| Some((url.host_str()?, url.port()))) {
        Some((host, Some(port))) => format!("{host}:{port}"),
        Some((host, None)) => host.to_owned(),
        None => "(not a URL)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_host_excludes_credentials_and_query() {
        assert_eq!(sts_host("ws://me:secret@sts:6030/a?from=2000#x"), "sts:6030");
        assert_eq!(sts_host("wss://sts.example/a"), "sts.example");
        assert_eq!(sts_host("sts"), "(not a URL)");
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut samples = LatencySamples::default();
        assert_eq!(samples.quantiles([0.5]), None);
        for latency in (1..=200).rev() {
            samples.record(Duration::from_micros(latency));
        }
        assert_eq!(samples.quantiles([0.0, 0.5, 0.9, 0.99, 1.0]), Some([1, 100, 180, 198, 200]));
        assert_eq!((samples.max(), samples.mean()), (200, 100.5));
        samples.record(Duration::MAX);
        assert_eq!(samples.max(), u32::MAX);
    }

    #[test]
    fn latency_samples_are_a_bounded_reservoir() {
        let mut samples = LatencySamples::default();
        for latency in 1..=2 * MAX_LATENCY_SAMPLES as u64 {
            samples.record(Duration::from_micros(latency));
        }
        assert_eq!(
            (samples.reservoir.len(), samples.count),
            (MAX_LATENCY_SAMPLES, 2 * MAX_LATENCY_SAMPLES as u64)
        );
        let [median] = samples.quantiles([0.5]).unwrap();
        assert!((900_000..1_100_000).contains(&median), "{median}");
    }

    #[test]
    fn named_counts_are_bounded() {
        let mut counts = NamedCounts::default();
        for name in 0..=MAX_COUNTED_NAMES {
            counts.increment(format!("{name:04}"));
        }
        counts.increment("0007".to_owned());
        assert_eq!(counts.0.len(), MAX_COUNTED_NAMES + 1);
        assert_eq!(counts.total(), MAX_COUNTED_NAMES as u64 + 2);
        let top = counts.top(2);
        let expected = [("0007", 2), ("0000", 1), (OTHERS_NAME, MAX_COUNTED_NAMES as u64 - 1)];
        assert_eq!(top, expected.map(|(name, count)| (name.to_owned(), count)));
        let mut counts = NamedCounts::default();
        counts.increment("é".repeat(MAX_NAME_CHARS + 1));
        assert_eq!(counts.top(1), [("é".repeat(MAX_NAME_CHARS), 1)]);
    }
}
