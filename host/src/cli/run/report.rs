//! The report of a run, as text or JSON.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::backtrace::BacktraceText;
use super::invocation::HookInvocation;
use super::kv_state::KvChange;
use super::outcome::{CacheDirective, InvocationOutcome};
use crate::cli::check::PluginDetails;
use crate::cli::table::{format_elapsed, format_size, write_row};
use plugboard_core::units::format_duration;
use plugboard_core::units::micros;
use plugboard_runtime::plugin::Hook;
use plugboard_runtime::plugin::backtrace::Frame;
use plugboard_runtime::plugin::error::Stage;
use plugboard_runtime::plugin::examine::{PluginReport, ReportStatus, ReportedError};
use plugboard_runtime::plugin::recorder::{
    HostCall, InvocationRecord, InvocationStep, LogChannel, LogLine, StepKind,
};

/// What came of a run.
#[derive(Serialize)]
pub(super) struct RunReport {
    /// The plugin, as `check --json` tells it.
    plugin: PluginReport,
    /// Each call of a hook.
    calls: Vec<InvocationReport>,
    /// What the plugin changed of its values.
    kv: Vec<KvChange>,
}

/// One call of a hook.
#[derive(Serialize)]
pub(super) struct InvocationReport {
    hook: Hook,
    /// What it was about, in a word or two.
    about: String,
    outcome: Option<InvocationOutcome>,
    pub(super) error: Option<ReportedError>,
    /// What would be otherwise in service.
    notes: Vec<String>,
    /// What it said and what it asked the host for, in order.
    steps: Vec<InvocationStep>,
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

impl InvocationReport {
    pub(super) fn new(
        invocation: &HookInvocation,
        outcome: Option<InvocationOutcome>,
        error: Option<ReportedError>,
        notes: Vec<String>,
        recording: InvocationRecord,
    ) -> Self {
        Self {
            hook: invocation.hook,
            about: invocation.description(),
            outcome,
            error,
            notes,
            steps: recording.steps,
            dropped_lines: recording.dropped_lines,
            dropped_host_calls: recording.dropped_calls,
            took_us: micros(recording.duration),
            instance_us: recording.time_to_instance.map(micros),
            instructions: recording.instructions,
            memory: recording.peak_memory,
            backtrace: recording.backtrace,
        }
    }
}

impl RunReport {
    pub(super) fn new(
        plugin: PluginReport,
        calls: Vec<InvocationReport>,
        kv: Vec<KvChange>,
    ) -> Self {
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

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plugin = &self.plugin;
        if plugin.error.is_some() {
            write!(f, "{}", PluginDetails(plugin))?;
            write_steps(f, &plugin.record.steps)?;
            return write_backtrace(f, &plugin.record.backtrace);
        }
        if plugin.state == ReportStatus::Disabled {
            let name = &plugin.name;
            writeln!(f, "{name} is switched off by its settings (enabled); it is run here\n")?;
        }
        for (nth, turn) in self.calls.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            self.write_invocation(f, turn)?;
        }
        if self.calls.is_empty() {
            writeln!(f, "{}: there is no event in this document", plugin.name)?;
        }
        if !self.kv.is_empty() {
            writeln!(f, "\nvalues")?;
        }
        for KvChange { key, before, after } in &self.kv {
            let value_text =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            write_row(f, key, format!("{} → {}", value_text(before), value_text(after)))?;
        }
        writeln!(f, "\nplugin")?;
        write_row(f, "file", format!("{} bytes", plugin.bytes.unwrap_or_default()))?;
        if let Some(micros) = plugin.compile_us {
            write_row(f, "compiled", format_elapsed(Duration::from_micros(micros)))?;
        }
        for warning in &plugin.warnings {
            write_row(f, "warning", warning)?;
        }
        Ok(())
    }
}

impl RunReport {
    fn write_invocation(
        &self,
        f: &mut fmt::Formatter<'_>,
        invocation: &InvocationReport,
    ) -> fmt::Result {
        let label = invocation.outcome.as_ref().map_or("failed", InvocationOutcome::label);
        writeln!(f, "{}, {}: {label}", self.plugin.name, invocation.about)?;
        if let Some(outcome) = &invocation.outcome {
            write_outcome(f, outcome)?;
        }
        if let Some(error) = &invocation.error {
            write_row(f, "error", &error.message)?;
        }
        for note in &invocation.notes {
            write_row(f, "note", note)?;
        }
        write_backtrace(f, &invocation.backtrace)?;
        write_steps(f, &invocation.steps)?;
        if invocation.dropped_lines > 0 {
            write_row(
                f,
                "",
                format!("and {} lines more, which the log drops", invocation.dropped_lines),
            )?;
        }
        if invocation.dropped_host_calls > 0 {
            write_row(f, "", format!("and {} host calls more", invocation.dropped_host_calls))?;
        }
        // It was never called.
        if invocation.took_us == 0 {
            return Ok(());
        }
        let instance = invocation.instance_us.map(|micros| {
            format!(", of which {} for the instance", format_elapsed(Duration::from_micros(micros)))
        });
        let time = format_elapsed(Duration::from_micros(invocation.took_us));
        write_row(f, "time", format!("{time}{}", instance.unwrap_or_default()))?;
        if let Some(instructions) = invocation.instructions {
            write_row(f, "instructions", instructions)?;
        }
        let memory_limit = self.plugin.settings.as_ref().map(|terms| terms.limits.memory as u64);
        let most =
            memory_limit.map(|most| format!(" of {}", format_size(most))).unwrap_or_default();
        write_row(f, "memory", format!("{}{most}", format_size(invocation.memory as u64)))
    }
}

fn write_outcome(f: &mut fmt::Formatter<'_>, outcome: &InvocationOutcome) -> fmt::Result {
    match outcome {
        InvocationOutcome::Decision { sts_url, filled_url, prompt, reason, cache, .. } => {
            let mut optional_row =
                |name, text: Option<&str>| text.map_or(Ok(()), |it| write_row(f, name, it));
            optional_row("sts_url", sts_url.as_deref())?;
            optional_row("filled", filled_url.as_deref())?;
            optional_row("prompt", prompt.as_deref())?;
            optional_row("reason", reason.as_deref())?;
            write_cache_directive(f, cache.as_ref())
        }
        InvocationOutcome::Result { result, cache } => {
            write_row(f, "result", result.get())?;
            write_cache_directive(f, cache.as_ref())
        }
        InvocationOutcome::ToolError { message, code } => {
            write_row(f, "message", message)?;
            code.as_ref().map_or(Ok(()), |code| write_row(f, "code", code))
        }
        InvocationOutcome::Answer { answer: Some(answer) } => write_row(f, "answer", answer.get()),
        InvocationOutcome::Answer { answer: None } | InvocationOutcome::Taken => Ok(()),
    }
}

fn write_cache_directive(
    f: &mut fmt::Formatter<'_>,
    directive: Option<&CacheDirective>,
) -> fmt::Result {
    let Some(CacheDirective { ttl_ms, vary }) = directive else { return Ok(()) };
    let calls = match &**vary {
        [] => "every call".to_owned(),
        fields => format!("calls with the same {}", fields.join(", ")),
    };
    write_row(
        f,
        "cached",
        format!("for {}, for {calls}", format_duration(Duration::from_millis(*ttl_ms))),
    )
}

fn write_steps(f: &mut fmt::Formatter<'_>, steps: &[InvocationStep]) -> fmt::Result {
    let mut title = "did";
    for InvocationStep { at, kind: what } in steps {
        let what = match what {
            StepKind::Log(line) => format_log_line(line),
            StepKind::HostCall(call) => format_host_call(call),
        };
        write_row(f, title, format!("at {:>10}  {what}", format_elapsed(*at)))?;
        title = "";
    }
    Ok(())
}

fn format_log_line(LogLine { level, from, text }: &LogLine) -> String {
    let level = format!("{level:?}").to_lowercase();
    // Its lines stay together.
    let text = text.replace('\n', "\n  ");
    match from {
        LogChannel::Log => format!("log {level}: {text}"),
        LogChannel::Stdout => format!("stdout: {text}"),
        LogChannel::Stderr => format!("stderr: {text}"),
    }
}

fn format_host_call(call: &HostCall) -> String {
    let HostCall { function, subject, detail, result, error, took: time } = call;
    let detail = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    let time = time.map(|time| format!(", in {}", format_elapsed(time))).unwrap_or_default();
    let outcome = match (result, error) {
        (Some(result), _) => format!("{result}{time}"),
        (None, Some(error)) => format!("{}{time}", error.message),
        (None, None) => "no answer until its time was up".to_owned(),
    };
    format!("{function} {subject}{detail} → {outcome}")
}

fn write_backtrace(f: &mut fmt::Formatter<'_>, frames: &[Frame]) -> fmt::Result {
    if frames.is_empty() { Ok(()) } else { write_row(f, "backtrace", BacktraceText(frames)) }
}
