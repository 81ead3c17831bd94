//! Recorder of a call's steps, for authors: log lines, host calls, durations, memory.
//!
//! `plugboard check` and `plugboard run` use a recorder. The server has none, so its calls
//! have no overhead for it.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::backtrace::Frame;
use crate::capability::log::{LogLevel, MAX_LINES, MAX_MESSAGE};
use plugboard_core::text::truncate;
use plugboard_core::units::micros;

/// Maximum number of recorded host calls of one call; further ones are only counted.
const MAX_HOST_CALLS: usize = 1_000;

/// Longest recorded subject and longest recorded result of a host call, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Record of one call of a plugin.
#[derive(Debug, Default)]
pub struct InvocationRecord {
    /// Log lines and host calls, in order.
    pub steps: Vec<InvocationStep>,
    /// Number of log lines beyond the limit of the log.
    pub dropped_lines: u32,
    /// Number of host calls beyond the limit of the recorder.
    pub dropped_calls: u32,
    /// Time until the instance existed. `None`: it could not be created.
    pub time_to_instance: Option<Duration>,
    /// Time until the end of the call.
    pub duration: Duration,
    /// Number of instructions, as fuel of wasmtime. `None` if they are not counted, or if the
    /// call failed, because the number is then unknown.
    pub instructions: Option<u64>,
    /// Peak of linear memory, all memories together, in bytes.
    pub peak_memory: usize,
    /// Number of core instances, if a pool counts them.
    pub core_instances: Option<u64>,
    /// Stack at the trap or the interruption, innermost frame first.
    pub backtrace: Vec<Frame>,
}

/// One step of a call.
#[derive(Debug, Serialize)]
pub struct InvocationStep {
    /// Time since the start of the call.
    #[serde(rename = "at_us", serialize_with = "as_micros")]
    pub at: Duration,
    /// Kind of the step, with its details.
    #[serde(flatten)]
    pub kind: StepKind,
}

/// Kind of a recorded step.
#[derive(Debug, Serialize)]
pub enum StepKind {
    /// The guest wrote a line.
    #[serde(rename = "log")]
    Log(LogLine),
    /// The guest called the host.
    #[serde(rename = "host_call")]
    HostCall(HostCall),
}

/// Line of a guest's log.
#[derive(Debug, Serialize)]
pub struct LogLine {
    /// Level of the line.
    pub level: LogLevel,
    /// Channel of the line.
    pub from: LogChannel,
    /// Text, truncated to the limit of the log.
    pub text: String,
}

/// Channel of a guest's log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogChannel {
    /// Log interface of the contract.
    Log,
    /// Standard output. Its time is that of the end of the call, when it is read.
    Stdout,
    /// Standard error, read like [`LogChannel::Stdout`].
    Stderr,
}

/// Call of a host function by a guest.
#[derive(Debug, Serialize)]
pub struct HostCall {
    /// Interface and function, such as `kv.get`.
    pub function: &'static str,
    /// Subject of the call, such as a key or a URL.
    pub subject: String,
    /// Further arguments as text.
    pub detail: Option<String>,
    /// Result as text, if the call succeeded.
    pub result: Option<String>,
    /// Error, if the call failed. Both are `None` if the guest's time ended first.
    pub error: Option<HostCallError>,
    /// Duration of the call, if it returned.
    #[serde(rename = "took_us", serialize_with = "as_micros_or_null")]
    pub took: Option<Duration>,
}

/// Error of a host call.
#[derive(Debug, Serialize)]
pub struct HostCallError {
    /// Label in metrics and logs.
    pub label: &'static str,
    /// Text for the plugin's author.
    pub message: String,
}

/// Recorder of a plugin's steps, one call at a time.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Option<Recording>>);

#[derive(Debug)]
struct Recording {
    started_at: Instant,
    lines: u32,
    host_calls: usize,
    record: InvocationRecord,
}

/// Host call without a result yet.
pub(super) struct PendingHostCall {
    step_index: Option<usize>,
    started_at: Instant,
}

impl Recorder {
    /// Takes the record of the last call; empty if no call began since the previous `take`.
    pub fn take(&self) -> InvocationRecord {
        self.0.lock().take().map(|current| current.record).unwrap_or_default()
    }

    /// Starts the record of a call.
    pub(super) fn begin(&self) {
        let started_at = Instant::now();
        *self.0.lock() = Some(Recording {
            started_at,
            lines: 0,
            host_calls: 0,
            record: InvocationRecord::default(),
        });
    }

    /// Records that the instance exists.
    pub(super) fn record_instance(&self, core_instances: Option<u64>) {
        self.update(|current| {
            current.record.time_to_instance = Some(current.started_at.elapsed());
            current.record.core_instances = core_instances;
        });
    }

    /// Records the end of the call.
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

    /// Records the backtrace of a trap or an interruption.
    pub(super) fn record_backtrace(&self, backtrace: Vec<Frame>) {
        self.update(|current| current.record.backtrace = backtrace);
    }

    /// Records a log line of the guest.
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

    /// Records the start of a host call.
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

    /// Records the result of a host call.
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

    /// Applies a change to the current record. Returns `None` without one: output of a guest
    /// can arrive after the record was taken.
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
            recorder.end_host_call(&pending, Ok("none".to_owned()));
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
