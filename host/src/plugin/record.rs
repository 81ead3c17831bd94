//! What a plugin did, step by step, for an author who looks. Whoever judges or
//! tries a plugin has a [`Recorder`]; the server has none, and pays for none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::backtrace::Frame;
use crate::capability::log::{Level, MAX_LINES, MAX_MESSAGE, cut};
use crate::units::micros;

/// Host calls that are kept of one call of a plugin; of the rest, the number.
const MOST_HOST_CALLS: usize = 1_000;

/// Of what a host call was about, and of its answer, what is kept, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Everything that one call of a plugin did.
#[derive(Debug, Default)]
pub struct Record {
    /// What it said and what it asked for, in order.
    pub steps: Vec<Step>,
    /// Lines that it said beyond those that the log takes.
    pub dropped_lines: u32,
    /// Host calls beyond those that are kept.
    pub dropped_calls: u32,
    /// Until there was an instance, if it came to that.
    pub instance: Option<Duration>,
    /// Until its end.
    pub total: Duration,
    /// Instructions that it took: wasmtime's fuel. None where they are not counted, and
    /// for a call that did not come to its end, of which it is not known.
    pub instructions: Option<u64>,
    /// The most linear memory that it had, all memories together, in bytes.
    pub memory: usize,
    /// Core instances that it is made of, where there is a pool to count them.
    pub core_instances: Option<u64>,
    /// Where it was when it trapped or was interrupted, innermost first.
    pub backtrace: Vec<Frame>,
}

/// One thing that it did.
#[derive(Debug, Serialize)]
pub struct Step {
    /// When, since it was called.
    #[serde(rename = "at_us", serialize_with = "as_micros")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What it did.
#[derive(Debug, Serialize)]
pub enum What {
    /// It wrote a line.
    #[serde(rename = "log")]
    Said(Line),
    /// It called the host.
    #[serde(rename = "host_call")]
    Asked(HostCall),
}

/// A line of its log.
#[derive(Debug, Serialize)]
pub struct Line {
    /// How loud.
    pub level: Level,
    /// By which way it came.
    pub from: Channel,
    /// What it said, cut at what the log takes.
    pub text: String,
}

/// Where a guest's words come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// The contract's log.
    Log,
    /// What it printed. When is not known: it is read when the call ends.
    Stdout,
    /// As [`Channel::Stdout`].
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
    pub error: Option<Refusal>,
    /// How long the guest waited for it, if there was an answer.
    #[serde(rename = "took_us", serialize_with = "as_micros_or_null")]
    pub took: Option<Duration>,
}

/// Why a guest did not get what it asked for.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// The word of metrics and logs.
    pub label: &'static str,
    /// For the author.
    pub message: String,
}

/// Keeps what a plugin does, one call at a time.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Option<Current>>);

#[derive(Debug)]
struct Current {
    begun: Instant,
    lines: u32,
    host_calls: usize,
    record: Record,
}

/// A host call that has no answer yet.
pub(super) struct Asking {
    place: Option<usize>,
    since: Instant,
}

impl Recorder {
    /// What was recorded since this was asked last.
    pub fn take(&self) -> Record {
        self.lock().take().map(|current| current.record).unwrap_or_default()
    }

    /// A call begins.
    pub(super) fn begin(&self) {
        let begun = Instant::now();
        *self.lock() = Some(Current { begun, lines: 0, host_calls: 0, record: Record::default() });
    }

    /// There is an instance now.
    pub(super) fn instantiated(&self, core_instances: Option<u64>) {
        self.with(|current| {
            current.record.instance = Some(current.begun.elapsed());
            current.record.core_instances = core_instances;
        });
    }

    /// The call is over.
    pub(super) fn ended(&self, instructions: Option<u64>, memory: usize) {
        self.with(|Current { begun, record, .. }| {
            *record =
                Record { total: begun.elapsed(), instructions, memory, ..std::mem::take(record) };
        });
    }

    /// It was there when it ended before its time.
    pub(super) fn trapped(&self, backtrace: Vec<Frame>) {
        self.with(|current| current.record.backtrace = backtrace);
    }

    /// The guest said something.
    pub(super) fn said(&self, level: Level, from: Channel, text: &str) {
        self.with(|current| {
            current.lines += 1;
            if current.lines > MAX_LINES {
                current.record.dropped_lines += 1;
                return;
            }
            let text = cut(text, MAX_MESSAGE).into_owned();
            current.push(What::Said(Line { level, from, text }));
        });
    }

    /// The guest calls the host.
    pub(super) fn asked(&self, mut call: HostCall) -> Asking {
        let place = self.with(|current| {
            current.host_calls += 1;
            if current.host_calls > MOST_HOST_CALLS {
                current.record.dropped_calls += 1;
                return None;
            }
            call.subject = cut(&call.subject, MAX_SUBJECT).into_owned();
            current.push(What::Asked(call));
            Some(current.record.steps.len() - 1)
        });
        Asking { place: place.flatten(), since: Instant::now() }
    }

    /// The host has answered.
    pub(super) fn answered(&self, asking: &Asking, answer: Result<String, Refusal>) {
        self.with(|current| {
            let step = asking.place.and_then(|place| current.record.steps.get_mut(place));
            if let Some(Step { what: What::Asked(call), .. }) = step {
                call.took = Some(asking.since.elapsed());
                match answer {
                    Ok(text) => call.result = Some(cut(&text, MAX_SUBJECT).into_owned()),
                    Err(refusal) => call.error = Some(refusal),
                }
            }
        });
    }

    /// Nothing, when there is no call: what a guest prints can come after its end.
    fn with<T>(&self, change: impl FnOnce(&mut Current) -> T) -> Option<T> {
        self.lock().as_mut().map(change)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn push(&mut self, what: What) {
        self.record.steps.push(Step { at: self.begun.elapsed(), what });
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
    use crate::plugin::words;
    use crate::store::KvCommand;

    #[test]
    fn what_is_beyond_the_bounds_is_counted() {
        let recorder = Recorder::default();
        recorder.begin();
        for _ in 0..MAX_LINES + 2 {
            recorder.said(Level::Info, Channel::Log, "line");
        }
        for nth in 0..MOST_HOST_CALLS + 3 {
            let asking = recorder.asked(words::kv(&nth.to_string(), &KvCommand::Get));
            recorder.answered(&asking, Ok("there is none".to_owned()));
        }
        let record = recorder.take();
        assert_eq!(record.steps.len(), MAX_LINES as usize + MOST_HOST_CALLS);
        assert_eq!((record.dropped_lines, record.dropped_calls), (2, 3));
    }

    #[test]
    fn a_host_call_without_an_answer_is_kept() {
        let recorder = Recorder::default();
        recorder.begin();
        recorder.asked(words::setting("vip"));
        recorder.ended(Some(7), 65_536);
        let record = recorder.take();
        assert!(matches!(
            &*record.steps,
            [Step { what: What::Asked(HostCall { took: None, .. }), .. }]
        ));
        assert_eq!((record.instructions, record.memory), (Some(7), 65_536));
        recorder.said(Level::Info, Channel::Log, "too late");
        assert!(recorder.take().steps.is_empty());
    }
}
