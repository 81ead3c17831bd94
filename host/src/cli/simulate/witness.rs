//! Who sees every event: the figures, the record, the story and the progress bar.

use std::fs::File;
use std::io::{self, IsTerminal, LineWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use uuid::Uuid;

use super::drive::Ending;
use super::figures::Figures;
use super::plan::{Event, Kind};
use super::sender::{Outcome, Sent};

/// All that is kept or shown of a run.
pub struct Witness {
    figures: Mutex<Figures>,
    record: Option<Mutex<LineWriter<File>>>,
    story: Option<Story>,
    bar: ProgressBar,
}

/// Where a line per event goes.
#[derive(Clone, Copy, Debug)]
pub enum Story {
    /// To standard output.
    Out,
    /// To standard error, where something else is written to standard output.
    Err,
}

impl Witness {
    /// A witness with nothing seen; the file is replaced.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn new(record: Option<&Path>, story: Option<Story>, bar: ProgressBar) -> io::Result<Self> {
        let record = record.map(File::create).transpose()?;
        Ok(Self {
            figures: Mutex::default(),
            record: record.map(|file| Mutex::new(LineWriter::new(file))),
            story,
            bar,
        })
    }

    /// The figures so far.
    pub fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event is on its way.
    pub fn sending(&self) {
        self.figures().sent += 1;
    }

    /// The end of an event is known.
    ///
    /// # Errors
    ///
    /// Why the run must end: it cannot be recorded, or nobody was ever there.
    pub fn settle(&self, call: Uuid, event: &Event, sent: &Sent) -> Result<(), Ending> {
        if let Outcome::Acknowledged { status, .. } = sent.outcome {
            self.record(call, event, status).map_err(Ending::Unrecorded)?;
        }
        let failed = {
            let mut figures = self.figures();
            figures.settle(event.kind, sent);
            if let Some(cause) = figures.absence(sent) {
                return Err(Ending::Absent(cause.to_owned()));
            }
            figures.failures.total()
        };
        if matches!(sent.outcome, Outcome::Failed(_)) {
            self.bar.set_message(failures(failed));
        }
        // Whether somebody reads the story changes nothing.
        let _ = match self.story {
            Some(Story::Out) => io::stdout().write_all(tell(call, event, sent).as_bytes()),
            Some(Story::Err) => io::stderr().write_all(tell(call, event, sent).as_bytes()),
            None => Ok(()),
        };
        Ok(())
    }

    /// All events of a call were sent.
    pub fn finished(&self) {
        self.figures().finished += 1;
        self.bar.inc(1);
    }

    /// Nothing more will be seen.
    pub fn close(&self) {
        self.bar.finish_and_clear();
    }

    fn record(&self, call: Uuid, event: &Event, status: u16) -> io::Result<()> {
        let Some(record) = &self.record else { return Ok(()) };
        let Event { nth, kind, timestamp, .. } = event;
        let kind = kind.name();
        // One write, so that a line is whole or not there.
        let line = format!(
            "{{\"call\":\"{call}\",\"type\":\"{kind}\",\"timestamp\":\"{timestamp}\",\
             \"nth\":{nth},\"status\":{status}}}\n"
        );
        record.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// A bar for this many calls, where somebody can see it.
pub fn bar(calls: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(calls), ProgressDrawTarget::stderr());
    let template = "{wide_bar} {human_pos}/{human_len} calls, {per_sec:1}, {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()));
    bar.with_message(failures(0))
}

fn failures(failed: u64) -> String {
    format!("{failed} failed")
}

/// An event's line, and before a call's first one the call's.
fn tell(call: Uuid, event: &Event, sent: &Sent) -> String {
    let full = call.to_string();
    // Enough to tell calls apart.
    let short = full.get(..8).unwrap_or(&full);
    let heading = match event.kind {
        Kind::Initiated => format!("call {full}\n"),
        _ => String::new(),
    };
    let time = event.timestamp.get(11..23).unwrap_or(&event.timestamp);
    let name = event.kind.name();
    let millis = sent.latency.as_secs_f64() * 1000.0;
    let (status, note) = match &sent.outcome {
        // Quoted: no letter of it may act upon the terminal.
        Outcome::Acknowledged { status, sts_url: Some(sts_url) } => {
            (status.to_string(), format!("sts_url {sts_url:?}"))
        }
        Outcome::Acknowledged { status, .. } if event.kind == Kind::Initiated => {
            (status.to_string(), "no sts_url: the platform's default".to_owned())
        }
        Outcome::Acknowledged { status, .. } => (status.to_string(), String::new()),
        Outcome::Failed(failure) => ("failed".to_owned(), failure.to_string()),
    };
    let line = format!("{short}  {time}  {name:<14}  {status:<6}  {millis:>8.1} ms  {note}");
    format!("{heading}{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::simulate::sender::Failure;

    #[test]
    fn a_story_is_told_by_the_line() {
        let told = |kind, outcome| {
            let event = Event {
                nth: 0,
                kind,
                timestamp: "2026-01-01T12:00:00.010Z".to_owned(),
                body: String::new(),
            };
            let sent = Sent { outcome, retries: 0, latency: Duration::from_micros(1250) };
            tell(Uuid::nil(), &event, &sent)
        };
        let sts_url = Some("ws://sts\n\u{1b}[31m".to_owned());
        assert_eq!(
            told(Kind::Initiated, Outcome::Acknowledged { status: 200, sts_url }),
            "call 00000000-0000-0000-0000-000000000000\n\
             00000000  12:00:00.010  call_initiated  200          1.2 ms  \
             sts_url \"ws://sts\\n\\u{1b}[31m\"\n"
        );
        assert_eq!(
            told(Kind::Ended, Outcome::Acknowledged { status: 202, sts_url: None }),
            "00000000  12:00:00.010  call_ended      202          1.2 ms\n"
        );
        assert_eq!(
            told(Kind::Started, Outcome::Failed(Failure::Timeout)),
            "00000000  12:00:00.010  call_started    failed       1.2 ms  no answer in time\n"
        );
    }
}
