//! Recorder of a call's steps, for authors: log lines, host calls, durations, memory.
//!
//! `plugboard check` and `plugboard run` use one. The server has none, and a call without
//! a recorder pays nothing for it.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::backtrace::Frame;
use crate::capability::log::{LogLevel, MAX_LINES, MAX_MESSAGE};
use plugboard_core::text::truncate;
use plugboard_core::units::micros;

/// Host calls that are kept of one call of a plugin; of the rest, the number.
const MAX_HOST_CALLS: usize = 1_000;

/// Of what a host call was about, and of its answer, what is kept, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Everything that one call of a plugin did.
#[derive(Debug, Default)]
pub struct InvocationRecord {
    /// What it said and what it asked for, in order.
    pub steps: Vec<InvocationStep>,
    /// Lines that it said beyond those that the log takes.
    pub dropped_lines: u32,
    /// Host calls beyond those that are kept.
    pub dropped_calls: u32,
    /// Until there was an instance, if it came to that.
    pub time_to_instance: Option<Duration>,
    /// Until its end.
    pub duration: Duration,
    /// Instructions that it took: wasmtime's fuel. None where they are not counted, and
    /// for a call that did not come to its end, of which it is not known.
    pub instructions: Option<u64>,
    /// The most linear memory that it had, all memories together, in bytes.
    pub peak_memory: usize,
    /// Core instances that it is made of, where there is a pool to count them.
    pub core_instances: Option<u64>,
    /// Where it was when it trapped or was interrupted, innermost first.
    pub backtrace: Vec<Frame>,
}

/// One thing that it did.
#[derive(Debug, Serialize)]
pub struct InvocationStep {
    /// When, since it was called.
    #[serde(rename = "at_us", serialize_with = "as_micros")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// What it did.
#[derive(Debug, Serialize)]
pub enum StepKind {
    /// It wrote a line.
    #[serde(rename = "log")]
    Log(LogLine),
    /// It called the host.
    #[serde(rename = "host_call")]
    HostCall(HostCall),
}

/// A line of its log.
#[derive(Debug, Serialize)]
pub struct LogLine {
    /// How loud.
    pub level: LogLevel,
    /// By which way it came.
    pub from: LogChannel,
    /// What it said, cut at what the log takes.
    pub text: String,
}

/// Where a guest's words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogChannel {
    /// The contract's log.
    Log,
    /// What it printed. When is not known: it is read when the call ends.
    Stdout,
    /// As [`LogChannel::Stdout`].
    Stderr,
}

/// A function of the host that a guest called.
#[derive(Debug, Serialize)]
pub struct HostCall {
    /// Interface and function, such as `kv.get`.
    pub function: &'static str,
    /// What about: a key, a URL.
    pub subject: String,
    /// What else it was told, in words.
    pub detail: Option<String>,
    /// What came of it, in words.
    pub result: Option<String>,
    /// Why nothing came of it. Neither: the guest's time was up before.
    pub error: Option<HostCallError>,
    /// How long the guest waited for it, if there was an answer.
    #[serde(rename = "took_us", serialize_with = "as_micros_or_null")]
    pub took: Option<Duration>,
}

/// Why a guest did not get what it asked for.
#[derive(Debug, Serialize)]
pub struct HostCallError {
    /// The word of metrics and logs.
    pub label: &'static str,
    /// For the author.
    pub message: String,
}

/// Keeps what a plugin does, one call at a time.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Option<Recording>>);

#[derive(Debug)]
struct Recording {
    started_at: Instant,
    lines: u32,
    host_calls: usize,
    record: InvocationRecord,
}

/// A host call that has no answer yet.
pub(super) struct PendingHostCall {
    step_index: Option<usize>,
    started_at: Instant,
}

impl Recorder {
    /// What was recorded since this was asked last.
    pub fn take(&self) -> InvocationRecord {
        self.0.lock().take().map(|current| current.record).unwrap_or_default()
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        let started_at = Instant::now();
        *self.0.lock() = Some(Recording {
            started_at,
            lines: 0,
            host_calls: 0,
            record: InvocationRecord::default(),
        });
    }

    /// There is an instance now.
    pub(super) fn record_instance(&self, core_instances: Option<u64>) {
        self.update(|current| {
            current.record.time_to_instance = Some(current.started_at.elapsed());
            current.record.core_instances = core_instances;
        });
    }

    /// The call is over.
    pub(super) fn finish(&self, instructions: Option<u64>, memory: usize) {
        self.update(|Recording { started_at, record, .. }| {
            *record = InvocationRecord {
                duration: started_at.elapsed(),
                instructions,
                peak_memory: memory,
                ..std::mem::take(record)
            };
        });
    }

    /// It was there when it ended before its time.
    pub(super) fn record_backtrace(&self, backtrace: Vec<Frame>) {
        self.update(|current| current.record.backtrace = backtrace);
    }

    /// The guest said something.
    pub(super) fn record_line(&self, level: LogLevel, from: LogChannel, text: &str) {
        self.update(|recording| {
            recording.lines += 1;
            if recording.lines > MAX_LINES {
                recording.record.dropped_lines += 1;
                return;
            }
            let text = truncate(text, MAX_MESSAGE).into_owned();
            recording.push(StepKind::Log(LogLine { level, from, text }));
        });
    }

    /// The guest calls the host.
    pub(super) fn begin_host_call(&self, mut call: HostCall) -> PendingHostCall {
        let step_index = self.update(|recording| {
            recording.host_calls += 1;
            if recording.host_calls > MAX_HOST_CALLS {
                recording.record.dropped_calls += 1;
                return None;
            }
            call.subject = truncate(&call.subject, MAX_SUBJECT).into_owned();
            recording.push(StepKind::HostCall(call));
            Some(recording.record.steps.len() - 1)
        });
        PendingHostCall { step_index: step_index.flatten(), started_at: Instant::now() }
    }

    /// The host has answered.
    pub(super) fn end_host_call(
        &self,
        pending: &PendingHostCall,
        answer: Result<String, HostCallError>,
    ) {
        self.update(|recording| {
            let step = pending
                .step_index
                .and_then(|step_index| recording.record.steps.get_mut(step_index));
            if let Some(InvocationStep { kind: StepKind::HostCall(call), .. }) = step {
                call.took = Some(pending.started_at.elapsed());
                match answer {
                    Ok(text) => call.result = Some(truncate(&text, MAX_SUBJECT).into_owned()),
                    Err(error) => call.error = Some(error),
                }
            }
        });
    }

    /// Nothing, when there is no call: what a guest prints can come after its end.
    fn update<T>(&self, change: impl FnOnce(&mut Recording) -> T) -> Option<T> {
        self.0.lock().as_mut().map(change)
    }
}

impl Recording {
    fn push(&mut self, kind: StepKind) {
        self.record.steps.push(InvocationStep { at: self.started_at.elapsed(), kind });
    }
}

fn as_micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    micros(*time).serialize(serializer)
}

fn as_micros_or_null<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(micros).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::host_call_text;
    use plugboard_store::KvCommand;

    #[test]
    fn recorder_counts_dropped_lines_and_host_calls() {
        let recorder = Recorder::default();
        recorder.begin();
        for _ in 0..MAX_LINES + 2 {
            recorder.record_line(LogLevel::Info, LogChannel::Log, "line");
        }
        for nth in 0..MAX_HOST_CALLS + 3 {
            let pending = recorder
                .begin_host_call(host_call_text::kv_call(&nth.to_string(), &KvCommand::Get));
            recorder.end_host_call(&pending, Ok("there is none".to_owned()));
        }
        let record = recorder.take();
        assert_eq!(record.steps.len(), MAX_LINES as usize + MAX_HOST_CALLS);
        assert_eq!((record.dropped_lines, record.dropped_calls), (2, 3));
    }

    #[test]
    fn recorder_keeps_unanswered_host_call() {
        let recorder = Recorder::default();
        recorder.begin();
        recorder.begin_host_call(host_call_text::config_call("vip"));
        recorder.finish(Some(7), 65_536);
        let record = recorder.take();
        assert!(matches!(
            &*record.steps,
            [InvocationStep { kind: StepKind::HostCall(HostCall { took: None, .. }), .. }]
        ));
        assert_eq!((record.instructions, record.peak_memory), (Some(7), 65_536));
        recorder.record_line(LogLevel::Info, LogChannel::Log, "too late");
        assert!(recorder.take().steps.is_empty());
    }
}
