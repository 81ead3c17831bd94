//! What is counted and measured while calls are played, in bounded memory.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;

use super::plan::Kind;
use super::sender::{Failure, Outcome, Sent};

/// Latencies that are kept; of more, a fair sample.
const MAX_SAMPLES: usize = 1_000_000;

/// Different things that are told apart in a table; further ones are counted
/// together.
const MAX_ROWS: usize = 1_000;

/// Longest name of a row, in characters.
const MAX_NAME: usize = 100;

/// The row of what has none of its own.
const OTHERS: &str = "others";

/// The figures of a run.
#[derive(Default)]
pub struct Figures {
    /// Calls whose every event was sent.
    pub finished: u64,
    /// Events that were sent.
    pub sent: u64,
    /// Events that were acknowledged.
    pub acknowledged: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Whether anything was ever answered, be it with an error.
    pub answered: bool,
    /// Events that were not acknowledged, by the reason.
    pub failures: Tally,
    /// Acknowledged questions where a call shall go.
    pub decisions: u64,
    /// Answers that named a service, by its host.
    pub hosts: Tally,
    /// How long acknowledged questions took.
    pub decision_latency: Samples,
    /// How long all other acknowledged events took.
    pub event_latency: Samples,
}

impl Figures {
    /// Counts an event whose end is known.
    pub fn settle(&mut self, kind: Kind, sent: &Sent) {
        self.retries += u64::from(sent.retries);
        match &sent.outcome {
            Outcome::Acknowledged { sts_url, .. } => {
                self.answered = true;
                self.acknowledged += 1;
                if kind != Kind::Initiated {
                    self.event_latency.add(sent.latency);
                    return;
                }
                self.decisions += 1;
                self.decision_latency.add(sent.latency);
                if let Some(sts_url) = sts_url {
                    self.hosts.add(host(sts_url));
                }
            }
            Outcome::Failed(failure) => {
                self.answered |= failure.is_answer();
                self.failures.add(failure.to_string());
            }
        }
    }

    /// The reason for which the run makes no sense: nobody was ever there.
    pub fn absence<'a>(&self, sent: &'a Sent) -> Option<&'a str> {
        match &sent.outcome {
            Outcome::Failed(Failure::NoConnection(cause)) if !self.answered => Some(cause),
            _ => None,
        }
    }
}

/// How often each of several things happened.
#[derive(Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Counts one.
    pub fn add(&mut self, mut name: String) {
        if let Some((end, _)) = name.char_indices().nth(MAX_NAME) {
            name.truncate(end);
        }
        if self.0.len() >= MAX_ROWS && !self.0.contains_key(&name) {
            name = OTHERS.to_owned();
        }
        *self.0.entry(name).or_default() += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The most frequent ones, most first, and the rest in one row.
    pub fn top(&self, most: usize) -> Vec<(String, u64)> {
        let mut rows: Vec<(String, u64)> =
            self.0.iter().map(|(name, count)| (name.clone(), *count)).collect();
        // Stable: by name where they are equal.
        rows.sort_by_key(|(name, count)| (name == OTHERS, std::cmp::Reverse(*count)));
        let rest: u64 = rows.iter().skip(most).map(|(_, count)| count).sum();
        rows.truncate(most);
        if rest > 0 {
            match rows.last_mut() {
                Some((name, count)) if name == OTHERS => *count += rest,
                _ => rows.push((OTHERS.to_owned(), rest)),
            }
        }
        rows
    }
}

/// Latencies: all of them, or a sample in which each is equally likely.
#[derive(Default)]
pub struct Samples {
    // Microseconds.
    kept: Vec<u32>,
    seen: u64,
    sum: u64,
    max: u32,
}

impl Samples {
    /// Takes one in.
    pub fn add(&mut self, latency: Duration) {
        let latency = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.seen += 1;
        self.sum += u64::from(latency);
        self.max = self.max.max(latency);
        if self.kept.len() < MAX_SAMPLES {
            self.kept.push(latency);
        } else if let Some(place) = usize::try_from(fastrand::u64(..self.seen))
            .ok()
            .and_then(|place| self.kept.get_mut(place))
        {
            *place = latency;
        }
    }

    /// The given quantiles (0 to 1, by nearest rank), in microseconds; none
    /// when there is nothing.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> Option<[u32; N]> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some(quantiles.map(|quantile| {
            let rank = (quantile * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.saturating_sub(1).min(last)).copied().unwrap_or_default()
        }))
    }

    /// The longest, in microseconds.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// The mean, in microseconds.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.seen.max(1) as f64
    }
}

/// The host of an address: the rest of it may say things about a caller.
fn host(sts_url: &str) -> String {
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
    fn a_host_says_nothing_about_the_caller() {
        assert_eq!(host("ws://me:secret@sts:6030/a?from=2000#x"), "sts:6030");
        assert_eq!(host("wss://sts.example/a"), "sts.example");
        assert_eq!(host("sts"), "(not a URL)");
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let mut samples = Samples::default();
        assert_eq!(samples.quantiles([0.5]), None);
        for latency in (1..=200).rev() {
            samples.add(Duration::from_micros(latency));
        }
        assert_eq!(samples.quantiles([0.0, 0.5, 0.9, 0.99, 1.0]), Some([1, 100, 180, 198, 200]));
        assert_eq!((samples.max(), samples.mean()), (200, 100.5));
        samples.add(Duration::MAX);
        assert_eq!(samples.max(), u32::MAX);
    }

    #[test]
    fn of_many_latencies_a_sample_is_kept() {
        let mut samples = Samples::default();
        for latency in 1..=2 * MAX_SAMPLES as u64 {
            samples.add(Duration::from_micros(latency));
        }
        assert_eq!((samples.kept.len(), samples.seen), (MAX_SAMPLES, 2 * MAX_SAMPLES as u64));
        let [median] = samples.quantiles([0.5]).unwrap();
        assert!((900_000..1_100_000).contains(&median), "{median}");
    }

    #[test]
    fn a_tally_is_bounded() {
        let mut tally = Tally::default();
        for name in 0..=MAX_ROWS {
            tally.add(format!("{name:04}"));
        }
        tally.add("0007".to_owned());
        assert_eq!(tally.0.len(), MAX_ROWS + 1);
        assert_eq!(tally.total(), MAX_ROWS as u64 + 2);
        let top = tally.top(2);
        let expected = [("0007", 2), ("0000", 1), (OTHERS, MAX_ROWS as u64 - 1)];
        assert_eq!(top, expected.map(|(name, count)| (name.to_owned(), count)));
        let mut tally = Tally::default();
        tally.add("é".repeat(MAX_NAME + 1));
        assert_eq!(tally.top(1), [("é".repeat(MAX_NAME), 1)]);
    }
}
