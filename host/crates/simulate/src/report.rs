//! The report of a run, as text or JSON.

use std::fmt;
use std::time::Duration;

use indicatif::HumanCount;
use serde::Serialize;

use super::stats::{LatencySamples, SimulationStats};

/// The maximum number of listed hosts, and of listed kinds of failures.
const MAX_REPORT_ROWS: usize = 10;

/// The report of a run.
#[derive(Debug, Serialize)]
pub struct SimulationReport {
    url: String,
    /// The reason why the run ended early.
    stopped: Option<&'static str>,
    seconds: f64,
    calls: CallTotals,
    events: EventTotals,
    failures: Vec<NamedCount>,
    decisions: DecisionTotals,
    latency_ms: LatencyReport,
}

#[derive(Debug, Serialize)]
struct CallTotals {
    planned: u64,
    finished: u64,
    per_second: f64,
}

#[derive(Debug, Serialize)]
struct EventTotals {
    sent: u64,
    acknowledged: u64,
    failed: u64,
    /// Events that were sent, but abandoned before the answer.
    cut_off: u64,
    retries: u64,
    per_second: f64,
}

#[derive(Debug, Serialize)]
struct DecisionTotals {
    answered: u64,
    with_sts_url: u64,
    /// Decisions that were answered without a URL.
    without_sts_url: u64,
    hosts: Vec<NamedCount>,
}

#[derive(Debug, Serialize)]
struct NamedCount {
    name: String,
    count: u64,
}

#[derive(Debug, Serialize)]
struct LatencyReport {
    decisions: Option<LatencyQuantiles>,
    events: Option<LatencyQuantiles>,
}

#[derive(Debug, Serialize)]
struct LatencyQuantiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    mean: f64,
}

impl SimulationReport {
    /// Creates the report of a run of this number of calls and this duration, with the reason
    /// if it was stopped.
    pub fn new(
        stats: &SimulationStats,
        url: String,
        planned: u64,
        elapsed: Duration,
        stopped: Option<&'static str>,
    ) -> Self {
        let seconds = elapsed.as_secs_f64();
        // A run of no duration has the rate 0 instead of an infinite one.
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let &SimulationStats {
            finished_calls: finished,
            sent,
            acknowledged,
            retries,
            decisions,
            ..
        } = stats;
        let failed = stats.failures.total();
        let with_sts_url = stats.sts_hosts.total();
        Self {
            url,
            stopped,
            seconds,
            calls: CallTotals { planned, finished, per_second: per_second(finished) },
            events: EventTotals {
                sent,
                acknowledged,
                failed,
                cut_off: sent.saturating_sub(acknowledged).saturating_sub(failed),
                retries,
                per_second: per_second(sent),
            },
            failures: named_counts(stats.failures.top(MAX_REPORT_ROWS)),
            decisions: DecisionTotals {
                answered: decisions,
                with_sts_url,
                without_sts_url: decisions.saturating_sub(with_sts_url),
                hosts: named_counts(stats.sts_hosts.top(MAX_REPORT_ROWS)),
            },
            latency_ms: LatencyReport {
                decisions: summarize_latency(&stats.decision_latency),
                events: summarize_latency(&stats.event_latency),
            },
        }
    }

    /// Returns whether every call was played and every event acknowledged.
    pub fn is_success(&self) -> bool {
        self.calls.finished == self.calls.planned && self.events.acknowledged == self.events.sent
    }
}

fn named_counts(top: Vec<(String, u64)>) -> Vec<NamedCount> {
    top.into_iter().map(|(name, count)| NamedCount { name, count }).collect()
}

fn summarize_latency(samples: &LatencySamples) -> Option<LatencyQuantiles> {
    let [p50, p90, p99] =
        samples.quantiles([0.5, 0.9, 0.99])?.map(|micros| to_millis(micros.into()));
    Some(LatencyQuantiles {
        p50,
        p90,
        p99,
        max: to_millis(samples.max().into()),
        mean: to_millis(samples.mean()),
    })
}

/// Converts to milliseconds with microsecond resolution.
fn to_millis(micros: f64) -> f64 {
    micros.round() / 1000.0
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, events, decisions, .. } = self;
        writeln!(f, "{} in {:.1} s", self.url, self.seconds)?;
        if let Some(stopped) = self.stopped {
            writeln!(f, "{stopped}: not all calls were played to their end")?;
        }
        let rate = format!("{:.1} a second", calls.per_second);
        writeln!(f, "\ncalls")?;
        write_row(f, "planned", calls.planned, "")?;
        write_row(f, "finished", calls.finished, &rate)?;
        let rate = format!("{:.1} a second", events.per_second);
        writeln!(f, "\nevents")?;
        write_row(f, "sent", events.sent, &rate)?;
        write_row(f, "acknowledged", events.acknowledged, "")?;
        write_row(f, "failed", events.failed, "")?;
        if events.cut_off > 0 {
            write_row(f, "cut off", events.cut_off, "unanswered when the run stopped")?;
        }
        write_row(f, "retries", events.retries, "")?;
        if !self.failures.is_empty() {
            writeln!(f, "\nfailures")?;
        }
        for NamedCount { name, count } in &self.failures {
            write_row(f, name, *count, "")?;
        }
        writeln!(f, "\ndecisions")?;
        write_row(f, "with an sts_url", decisions.with_sts_url, "")?;
        write_row(f, "without", decisions.without_sts_url, "the platform's default")?;
        if !decisions.hosts.is_empty() {
            writeln!(f, "\nhosts of sts_url")?;
        }
        for NamedCount { name, count } in &decisions.hosts {
            write_row(f, name, *count, "")?;
        }
        writeln!(
            f,
            "\n{:<13}{:>9}{:>10}{:>10}{:>10}{:>10}",
            "latency (ms)", "p50", "p90", "p99", "max", "mean"
        )?;
        write_latency_row(f, "decisions", self.latency_ms.decisions.as_ref())?;
        write_latency_row(f, "events", self.latency_ms.events.as_ref())
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, count: u64, note: &str) -> fmt::Result {
    let count = HumanCount(count).to_string();
    let row = format!("  {count:>13}  {name:<20}  {note}");
    writeln!(f, "{}", row.trim_end())
}

fn write_latency_row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    latency: Option<&LatencyQuantiles>,
) -> fmt::Result {
    let Some(LatencyQuantiles { p50, p90, p99, max, mean }) = latency else {
        return writeln!(f, "  {name:<11}{:>9}", "–");
    };
    writeln!(f, "  {name:<11}{p50:>9.2}{p90:>10.2}{p99:>10.2}{max:>10.2}{mean:>10.2}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::SimulatedEventKind;
    use crate::sender::{EventDelivery, SendFailure, SendOutcome};

    fn delivery(outcome: SendOutcome, retries: u32, millis: u64) -> EventDelivery {
        EventDelivery { outcome, retries, latency: Duration::from_millis(millis) }
    }

    fn acknowledged_outcome(sts_url: Option<&str>) -> SendOutcome {
        SendOutcome::Acknowledged { status: 200, sts_url: sts_url.map(str::to_owned) }
    }

    fn stats() -> SimulationStats {
        let mut stats =
            SimulationStats { finished_calls: 2, sent: 5, ..SimulationStats::default() };
        stats.record_delivery(
            SimulatedEventKind::Initiated,
            &delivery(acknowledged_outcome(Some("ws://sts:6030/?a=1")), 0, 2),
        );
        stats.record_delivery(
            SimulatedEventKind::Initiated,
            &delivery(acknowledged_outcome(None), 1, 4),
        );
        stats.record_delivery(
            SimulatedEventKind::Ended,
            &delivery(acknowledged_outcome(None), 0, 1),
        );
        stats.record_delivery(
            SimulatedEventKind::Ended,
            &delivery(SendOutcome::Failed(SendFailure::Status(503)), 1, 1),
        );
        stats
    }

    fn report() -> SimulationReport {
        let url = "http://127.0.0.1:9000/events".to_owned();
        SimulationReport::new(&stats(), url, 3, Duration::from_secs(2), Some("interrupted"))
    }

    #[test]
    fn report_renders_as_text() {
        let expected = "\
http://127.0.0.1:9000/events in 2.0 s
interrupted: not all calls were played to their end

calls
              3  planned
              2  finished              1.0 a second

events
              5  sent                  2.5 a second
              3  acknowledged
              1  failed
              1  cut off               unanswered when the run stopped
              2  retries

failures
              1  status 503

decisions
              1  with an sts_url
              1  without               the platform's default

hosts of sts_url
              1  sts:6030

latency (ms)       p50       p90       p99       max      mean
  decisions       2.00      4.00      4.00      4.00      3.00
  events          1.00      1.00      1.00      1.00      1.00
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn report_serializes_as_json() {
        let report = serde_json::to_value(report()).unwrap();
        assert_eq!(
            report,
            json!({
                "url": "http://127.0.0.1:9000/events",
                "stopped": "interrupted",
                "seconds": 2.0,
                "calls": { "planned": 3, "finished": 2, "per_second": 1.0 },
                "events": {
                    "sent": 5, "acknowledged": 3, "failed": 1, "cut_off": 1, "retries": 2,
                    "per_second": 2.5,
                },
                "failures": [{ "name": "status 503", "count": 1 }],
                "decisions": {
                    "answered": 2, "with_sts_url": 1, "without_sts_url": 1,
                    "hosts": [{ "name": "sts:6030", "count": 1 }],
                },
                "latency_ms": {
                    "decisions": { "p50": 2.0, "p90": 4.0, "p99": 4.0, "max": 4.0, "mean": 3.0 },
                    "events": { "p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0, "mean": 1.0 },
                },
            })
        );
    }

    #[test]
    fn empty_run_is_failure_with_zero_rate() {
        let report = SimulationReport::new(
            &SimulationStats::default(),
            String::new(),
            1,
            Duration::ZERO,
            None,
        );
        assert!(!report.is_success());
        assert_eq!(report.calls.per_second, 0.0);
        assert!(report.to_string().ends_with("\n  events             –\n"));
    }
}
