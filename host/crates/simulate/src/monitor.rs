//! The monitor of a run: statistics, record, log of events and progress bar.

use std::fs::File;
use std::io::{self, IsTerminal, LineWriter, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::end::SimulationEnd;
use super::scenario::{SimulatedEvent, SimulatedEventKind};
use super::sender::{EventDelivery, SendOutcome};
use super::stats::SimulationStats;

/// The monitor, which is notified of every event.
pub struct SimulationMonitor {
    stats: Mutex<SimulationStats>,
    record: Option<Mutex<LineWriter<File>>>,
    event_output: Option<EventOutput>,
    progress_bar: ProgressBar,
}

/// The destination of the line that each event writes.
#[derive(Clone, Copy, Debug)]
pub enum EventOutput {
    /// Events are written to standard output.
    Stdout,
    /// Events are written to standard error, because another output uses standard output.
    Stderr,
}

impl SimulationMonitor {
    /// Creates a monitor. An existing record file is replaced.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be written.
    pub fn new(
        record: Option<&Path>,
        story: Option<EventOutput>,
        bar: ProgressBar,
    ) -> io::Result<Self> {
        let record = record.map(File::create).transpose()?;
        Ok(Self {
            stats: Mutex::default(),
            record: record.map(|file| Mutex::new(LineWriter::new(file))),
            event_output: story,
            progress_bar: bar,
        })
    }

    /// Returns the statistics so far.
    pub fn stats(&self) -> MutexGuard<'_, SimulationStats> {
        self.stats.lock()
    }

    /// Records that an event is sent.
    pub fn record_sending(&self) {
        self.stats().sent += 1;
    }

    /// Records the result of an event.
    ///
    /// # Errors
    ///
    /// Returns the reason why the run must end: the record cannot be written, or no connection
    /// ever succeeded.
    pub fn record_delivery(
        &self,
        call: Uuid,
        event: &SimulatedEvent,
        delivery: &EventDelivery,
    ) -> Result<(), SimulationEnd> {
        if let SendOutcome::Acknowledged { status, .. } = delivery.outcome {
            self.write_record(call, event, status).map_err(SimulationEnd::RecordFailed)?;
        }
        let failed = {
            let mut stats = self.stats();
            stats.record_delivery(event.kind, delivery);
            if let Some(cause) = stats.unreachable_cause(delivery) {
                return Err(SimulationEnd::Unreachable(cause.to_owned()));
            }
            stats.failures.total()
        };
        if matches!(delivery.outcome, SendOutcome::Failed(_)) {
            self.progress_bar.set_message(failure_message(failed));
        }
        // A closed output does not affect the run.
        let _ = match self.event_output {
            Some(EventOutput::Stdout) => {
                io::stdout().write_all(format_event(call, event, delivery).as_bytes())
            }
            Some(EventOutput::Stderr) => {
                io::stderr().write_all(format_event(call, event, delivery).as_bytes())
            }
            None => Ok(()),
        };
        Ok(())
    }

    /// Records that all events of a call were sent.
    pub fn record_call_finished(&self) {
        self.stats().finished_calls += 1;
        self.progress_bar.inc(1);
    }

    /// Removes the progress bar and finishes the output.
    pub fn finish(&self) {
        self.progress_bar.finish_and_clear();
    }

    fn write_record(&self, call: Uuid, event: &SimulatedEvent, status: u16) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let SimulatedEvent { index: nth, kind, timestamp, .. } = event;
        let kind = kind.name();
        // A line needs one write, so that it is complete or absent.
        let line = format!(
            "{{\"call\":\"{call}\",\"type\":\"{kind}\",\"timestamp\":\"{timestamp}\",\
             \"nth\":{nth},\"status\":{status}}}\n"
        );
        record.lock().write_all(line.as_bytes())
    }
}

/// Creates a progress bar for this number of calls, if there is a terminal.
pub fn progress_bar(calls: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(calls), ProgressDrawTarget::stderr());
    let template = "{wide_bar} {human_pos}/{human_len} calls, {per_sec:1}, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar.with_message(failure_message(0))
}

fn failure_message(failed: u64) -> String {
    format!("{failed} failed")
}

/// Formats the line of an event, with the line of its call before the first one.
fn format_event(call: Uuid, event: &SimulatedEvent, delivery: &EventDelivery) -> String {
    let call_id = call.to_string();
    // Long enough to distinguish calls.
    let short_id = call_id.get(..8).unwrap_or(&call_id);
    let heading = match event.kind {
        SimulatedEventKind::Initiated => format!("call {call_id}\n"),
        _ => String::new(),
    };
    let time = event.timestamp.get(11..23).unwrap_or(&event.timestamp);
    let name = event.kind.name();
    let millis = delivery.latency.as_secs_f64() * 1000.0;
    let (status, note) = match &delivery.outcome {
        // The URL is quoted, so that none of its characters controls the terminal.
        SendOutcome::Acknowledged { status, sts_url: Some(sts_url) } => {
            (status.to_string(), format!("sts_url {sts_url:?}"))
        }
        SendOutcome::Acknowledged { status, .. } if event.kind == SimulatedEventKind::Initiated => {
            (status.to_string(), "no sts_url: the platform's default".to_owned())
        }
        SendOutcome::Acknowledged { status, .. } => (status.to_string(), String::new()),
        SendOutcome::Failed(failure) => ("failed".to_owned(), failure.to_string()),
    };
    let line = format!("{short_id}  {time}  {name:<14}  {status:<6}  {millis:>8.1} ms  {note}");
    format!("{heading}{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sender::SendFailure;

    #[test]
    fn format_event_prints_one_line_per_event() {
        let formatted = |kind, outcome| {
            let event = SimulatedEvent {
                index: 0,
                kind,
                timestamp: "2026-01-01T12:00:00.010Z".to_owned(),
                body: String::new(),
            };
            let sent = EventDelivery { outcome, retries: 0, latency: Duration::from_micros(1250) };
            format_event(Uuid::nil(), &event, &sent)
        };
        let sts_url = Some("ws://sts\n\u{1b}[31m".to_owned());
        assert_eq!(
            formatted(
                SimulatedEventKind::Initiated,
                SendOutcome::Acknowledged { status: 200, sts_url }
            ),
            "call 00000000-0000-0000-0000-000000000000\n\
             00000000  12:00:00.010  call_initiated  200          1.2 ms  \
             sts_url \"ws://sts\\n\\u{1b}[31m\"\n"
        );
        assert_eq!(
            formatted(
                SimulatedEventKind::Ended,
                SendOutcome::Acknowledged { status: 202, sts_url: None }
            ),
            "00000000  12:00:00.010  call_ended      202          1.2 ms\n"
        );
        assert_eq!(
            formatted(SimulatedEventKind::Started, SendOutcome::Failed(SendFailure::Timeout)),
            "00000000  12:00:00.010  call_started    failed       1.2 ms  no answer in time\n"
        );
    }
}
