//! Report of a run, as text or JSON.

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

/// Report of a run.
#[derive(Serialize)]
pub(super) struct RunReport {
    /// The plugin, as in `check --json`.
    plugin: PluginReport,
    /// Each invocation of a hook.
    calls: Vec<InvocationReport>,
    /// Values that the plugin changed.
    kv: Vec<KvChange>,
}

/// Report of one invocation of a hook.
#[derive(Serialize)]
pub(super) struct InvocationReport {
    hook: Hook,
    /// Short description of the input.
    about: String,
    outcome: Option<InvocationOutcome>,
    pub(super) error: Option<ReportedError>,
    /// Differences from the server.
    notes: Vec<String>,
    /// Log lines and host calls, in order.
    steps: Vec<InvocationStep>,
    /// Number of log lines beyond the limit.
    dropped_lines: u32,
    /// Number of host calls beyond the limit of the recorder.
    dropped_host_calls: u32,
    /// Duration of the invocation, in microseconds.
    took_us: u64,
    /// Time until the instance was ready, in microseconds; part of `took_us`.
    instance_us: Option<u64>,
    /// Number of instructions. None: the invocation did not finish.
    instructions: Option<u64>,
    /// Peak size of the linear memory, in bytes.
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

    /// Returns whether the plugin loaded and all invocations returned a result.
    pub(super) fn is_success(&self) -> bool {
        self.plugin.error.is_none() && self.calls.iter().all(|call| call.error.is_none())
    }

    /// Returns whether the plugin's settings are invalid.
    pub(super) fn has_bad_settings(&self) -> bool {
        self.plugin.error.as_ref().is_some_and(|error| error.stage == Stage::Settings)
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
            writeln!(f, "{name} is disabled by its settings (enabled); it runs here anyway\n")?;
        }
        for (nth, call) in self.calls.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            self.write_invocation(f, call)?;
        }
        if self.calls.is_empty() {
            writeln!(f, "{}: the document contains no event", plugin.name)?;
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
                format!("and {} more lines, which the log drops", invocation.dropped_lines),
            )?;
        }
        if invocation.dropped_host_calls > 0 {
            write_row(f, "", format!("and {} more host calls", invocation.dropped_host_calls))?;
        }
        // The hook was not invoked.
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
        let memory_limit =
            self.plugin.settings.as_ref().map(|settings| settings.limits.memory as u64);
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
        InvocationOutcome::Answer { answer: None } | InvocationOutcome::Acknowledged => Ok(()),
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
    let mut title = "steps";
    for InvocationStep { at, kind } in steps {
        let text = match kind {
            StepKind::Log(line) => format_log_line(line),
            StepKind::HostCall(call) => format_host_call(call),
        };
        write_row(f, title, format!("at {:>10}  {text}", format_elapsed(*at)))?;
        title = "";
    }
    Ok(())
}

fn format_log_line(LogLine { level, from, text }: &LogLine) -> String {
    let level = format!("{level:?}").to_lowercase();
    // Further lines are indented below the first one.
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
        (None, None) => "no answer before the timeout".to_owned(),
    };
    format!("{function} {subject}{detail} → {outcome}")
}

fn write_backtrace(f: &mut fmt::Formatter<'_>, frames: &[Frame]) -> fmt::Result {
    if frames.is_empty() { Ok(()) } else { write_row(f, "backtrace", BacktraceText(frames)) }
}
