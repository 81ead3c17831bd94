//! What came of a run: as text, or as JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::backtrace::Shown;
use super::occasion::Occasion;
use super::outcome::{Leave, Outcome};
use super::values::Change;
use crate::cli::check::Detailed;
use crate::cli::rows::{row, size, took};
use crate::plugin::Hook;
use crate::plugin::backtrace::Frame;
use crate::plugin::error::Stage;
use crate::plugin::examine::{Examination, Fault, State};
use crate::plugin::record::{Channel, HostCall, Line, Record, Step, What};
use crate::units::duration_text;
use crate::units::micros;

/// What came of a run.
#[derive(Serialize)]
pub(super) struct Report {
    /// The plugin, as `check --json` tells it.
    plugin: Examination,
    /// Each call of a hook.
    calls: Vec<Turn>,
    /// What the plugin changed of its values.
    kv: Vec<Change>,
}

/// One call of a hook.
#[derive(Serialize)]
pub(super) struct Turn {
    hook: Hook,
    /// What it was about, in a word or two.
    about: String,
    outcome: Option<Outcome>,
    pub(super) error: Option<Fault>,
    /// What would be otherwise in service.
    notes: Vec<String>,
    /// What it said and what it asked the host for, in order.
    steps: Vec<Step>,
    /// Lines beyond those that the log takes.
    dropped_lines: u32,
    /// Host calls beyond those that are kept.
    dropped_host_calls: u32,
    /// All of it, in microseconds.
    took_us: u64,
    /// Of that, until there was an instance.
    instance_us: Option<u64>,
    /// None: it did not come to its end.
    instructions: Option<u64>,
    /// The most linear memory that it had, in bytes.
    memory: usize,
    backtrace: Vec<Frame>,
}

impl Turn {
    pub(super) fn new(
        occasion: &Occasion,
        outcome: Option<Outcome>,
        error: Option<Fault>,
        notes: Vec<String>,
        record: Record,
    ) -> Self {
        Self {
            hook: occasion.hook,
            about: occasion.title(),
            outcome,
            error,
            notes,
            steps: record.steps,
            dropped_lines: record.dropped_lines,
            dropped_host_calls: record.dropped_calls,
            took_us: micros(record.total),
            instance_us: record.instance.map(micros),
            instructions: record.instructions,
            memory: record.memory,
            backtrace: record.backtrace,
        }
    }
}

impl Report {
    pub(super) fn new(plugin: Examination, calls: Vec<Turn>, kv: Vec<Change>) -> Self {
        Self { plugin, calls, kv }
    }

    /// Whether the plugin answered, whatever that was.
    pub(super) fn is_success(&self) -> bool {
        self.plugin.error.is_none() && self.calls.iter().all(|turn| turn.error.is_none())
    }

    /// Whether it is the settings that cannot be used.
    pub(super) fn has_bad_settings(&self) -> bool {
        self.plugin.error.as_ref().is_some_and(|fault| fault.stage == Stage::Settings)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugin = &self.plugin;
        if plugin.error.is_some() {
            write!(f, "{}", Detailed(plugin))?;
            steps(f, &plugin.record.steps)?;
            return backtrace(f, &plugin.record.backtrace);
        }
        if plugin.state == State::Disabled {
            let name = &plugin.name;
            writeln!(f, "{name} is switched off by its settings (enabled); it is run here\n")?;
        }
        for (nth, turn) in self.calls.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            self.turn(f, turn)?;
        }
        if self.calls.is_empty() {
            writeln!(f, "{}: there is no event in this document", plugin.name)?;
        }
        if !self.kv.is_empty() {
            writeln!(f, "\nvalues")?;
        }
        for Change { key, before, after } in &self.kv {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            row(f, key, format!("{} → {}", shown(before), shown(after)))?;
        }
        writeln!(f, "\nplugin")?;
        row(f, "file", format!("{} bytes", plugin.bytes.unwrap_or_default()))?;
        if let Some(micros) = plugin.compile_us {
            row(f, "compiled", took(Duration::from_micros(micros)))?;
        }
        for warning in &plugin.warnings {
            row(f, "warning", warning)?;
        }
        Ok(())
    }
}

impl Report {
    fn turn(&self, f: &mut fmt::Formatter<'_>, turn: &Turn) -> fmt::Result {
        let word = turn.outcome.as_ref().map_or("failed", Outcome::word);
        writeln!(f, "{}, {}: {word}", self.plugin.name, turn.about)?;
        if let Some(outcome) = &turn.outcome {
            answer(f, outcome)?;
        }
        if let Some(error) = &turn.error {
            row(f, "error", &error.message)?;
        }
        for note in &turn.notes {
            row(f, "note", note)?;
        }
        backtrace(f, &turn.backtrace)?;
        steps(f, &turn.steps)?;
        if turn.dropped_lines > 0 {
            row(f, "", format!("and {} lines more, which the log drops", turn.dropped_lines))?;
        }
        if turn.dropped_host_calls > 0 {
            row(f, "", format!("and {} host calls more", turn.dropped_host_calls))?;
        }
        // It was never called.
        if turn.took_us == 0 {
            return Ok(());
        }
        let instance = turn.instance_us.map(|micros| {
            format!(", of which {} for the instance", took(Duration::from_micros(micros)))
        });
        let time = took(Duration::from_micros(turn.took_us));
        row(f, "time", format!("{time}{}", instance.unwrap_or_default()))?;
        if let Some(instructions) = turn.instructions {
            row(f, "instructions", instructions)?;
        }
        let most = self.plugin.settings.as_ref().map(|terms| terms.limits.memory as u64);
        let most = most.map(|most| format!(" of {}", size(most))).unwrap_or_default();
        row(f, "memory", format!("{}{most}", size(turn.memory as u64)))
    }
}

fn answer(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    match outcome {
        Outcome::Decision { sts_url, filled_url, prompt, reason, cache, .. } => {
            let mut some = |name, text: Option<&str>| text.map_or(Ok(()), |it| row(f, name, it));
            some("sts_url", sts_url.as_deref())?;
            some("filled", filled_url.as_deref())?;
            some("prompt", prompt.as_deref())?;
            some("reason", reason.as_deref())?;
            leave(f, cache.as_ref())
        }
        Outcome::Result { result, cache } => {
            row(f, "result", result.get())?;
            leave(f, cache.as_ref())
        }
        Outcome::ToolError { message, code } => {
            row(f, "message", message)?;
            code.as_ref().map_or(Ok(()), |code| row(f, "code", code))
        }
        Outcome::Answer { answer: Some(answer) } => row(f, "answer", answer.get()),
        Outcome::Answer { answer: None } | Outcome::Taken => Ok(()),
    }
}

fn leave(f: &mut fmt::Formatter<'_>, leave: Option<&Leave>) -> fmt::Result {
    let Some(Leave { ttl_ms, vary }) = leave else { return Ok(()) };
    let calls = match &**vary {
        [] => "every call".to_owned(),
        fields => format!("calls with the same {}", fields.join(", ")),
    };
    row(f, "cached", format!("for {}, for {calls}", duration_text(Duration::from_millis(*ttl_ms))))
}

fn steps(f: &mut fmt::Formatter<'_>, steps: &[Step]) -> fmt::Result {
    let mut title = "did";
    for Step { at, what } in steps {
        let what = match what {
            What::Said(line) => said(line),
            What::Asked(call) => asked(call),
        };
        row(f, title, format!("at {:>10}  {what}", took(*at)))?;
        title = "";
    }
    Ok(())
}

fn said(Line { level, from, text }: &Line) -> String {
    let level = format!("{level:?}").to_lowercase();
    // Its lines stay together.
    let text = text.replace('\n', "\n  ");
    match from {
        Channel::Log => format!("log {level}: {text}"),
        Channel::Stdout => format!("stdout: {text}"),
        Channel::Stderr => format!("stderr: {text}"),
    }
}

fn asked(call: &HostCall) -> String {
    let HostCall { function, subject, detail, result, error, took: time } = call;
    let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let time = time.map(|time| format!(", in {}", took(time))).unwrap_or_default();
    let outcome = match (result, error) {
        (Some(result), _) => format!("{result}{time}"),
        (None, Some(error)) => format!("{}{time}", error.message),
        (None, None) => "no answer until its time was up".to_owned(),
    };
    format!("{function} {subject}{detail} → {outcome}")
}

fn backtrace(f: &mut fmt::Formatter<'_>, frames: &[Frame]) -> fmt::Result {
    if frames.is_empty() { Ok(()) } else { row(f, "backtrace", Shown(frames)) }
}
