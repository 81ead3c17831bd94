//! Text of the report on a plugin.

use std::fmt;
use std::time::Duration;

use crate::cli::table::{format_columns, format_elapsed, format_size, write_row};
use plugboard_core::event::EventKind;
use plugboard_core::units::format_duration;
use plugboard_runtime::plugin::Hook;
use plugboard_runtime::plugin::examine::{
    ComponentInfo, EffectiveSettings, Import, ImportOrigin, PluginReport, ReportStatus,
};

/// Detailed report on one plugin.
pub(in crate::cli) struct PluginDetails<'a>(pub(in crate::cli) &'a PluginReport);

impl fmt::Display for PluginDetails<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        writeln!(f, "{}: {}", report.name, state_text(report.state))?;
        write_row(f, "file", report.file.display())?;
        if let Some(bytes) = report.bytes {
            write_row(f, "size", format!("{bytes} bytes"))?;
        }
        if let Some(kind) = report.kind {
            write_row(f, "kind", kind)?;
        }
        let has_component = report.component.is_some();
        if let Some(component) = &report.component {
            write_component(f, component)?;
        }
        if !report.tools.is_empty() {
            write_row(f, "tools", report.tools.join(", "))?;
        }
        if let Some(micros) = report.compile_us {
            write_row(f, "compiled", format_elapsed(Duration::from_micros(micros)))?;
        }
        if let Some(trial) = &report.instance {
            let memory = format_size(trial.memory as u64);
            let cores = trial.core_instances.map(|count| format!("\n{count} core instances"));
            let cores = cores.unwrap_or_default();
            write_row(f, "instance", format!("{memory} of memory{cores}"))?;
        }
        // Without a file and a component, the settings are only defaults.
        let settings = report.settings.as_ref();
        if let Some(settings) = settings.filter(|it| it.file.is_some() || has_component) {
            write_settings(f, settings, report.hooks())?;
        }
        for warning in &report.warnings {
            write_row(f, "warning", warning)?;
        }
        match &report.error {
            Some(error) => {
                write_row(f, "error", format!("{}: {}", error.stage.name(), error.message))
            }
            None => Ok(()),
        }
    }
}

fn state_text(state: ReportStatus) -> &'static str {
    match state {
        ReportStatus::Good => "good",
        ReportStatus::Broken => "broken",
        ReportStatus::Disabled => "disabled by its settings (enabled)",
    }
}

fn write_component(f: &mut fmt::Formatter<'_>, component: &ComponentInfo) -> fmt::Result {
    let ComponentInfo { contract, hooks, other_exports, imports, needs } = component;
    let versions = if contract.is_empty() { "none".to_owned() } else { contract.join(", ") };
    write_row(f, "contract", versions)?;
    let hooks: Vec<&str> = hooks.iter().map(|hook| hook.interface()).collect();
    write_row(f, "hooks", if hooks.is_empty() { "none".to_owned() } else { hooks.join(", ") })?;
    if !other_exports.is_empty() {
        write_row(f, "also exports", other_exports.join("\n"))?;
    }
    let imports_from =
        |origin| imports.iter().filter(move |import: &&Import| import.from == origin);
    let display_name = |import: &'_ Import| import.capability().unwrap_or(&import.name).to_owned();
    let contract_imports: Vec<_> =
        imports_from(ImportOrigin::Contract).map(|it| (display_name(it), it.purpose)).collect();
    let unknown_imports: Vec<_> =
        imports_from(ImportOrigin::Unknown).map(|it| (display_name(it), it.purpose)).collect();
    for (title, rows) in [("imports", contract_imports), ("unknown", unknown_imports)] {
        if !rows.is_empty() {
            write_row(
                f,
                title,
                format_columns(rows.iter().map(|(name, purpose)| (&**name, *purpose))),
            )?;
        }
    }
    let mut wasi: Vec<(&str, String)> = Vec::new();
    for Import { name, purpose, .. } in imports_from(ImportOrigin::Wasi) {
        let name = name.trim_start_matches("wasi:").split('@').next().unwrap_or_default();
        match wasi.iter_mut().find(|(group_purpose, _)| group_purpose == purpose) {
            Some((_, names)) => *names += &format!(", {name}"),
            None => wasi.push((purpose, name.to_owned())),
        }
    }
    match &*wasi {
        [] => write_row(f, "WASI", "nothing")?,
        rows => write_row(
            f,
            "WASI",
            format_columns(rows.iter().map(|(purpose, names)| (*purpose, &**names))),
        )?,
    }
    if let Some(needs) = needs {
        let memories = count_text(needs.memories, "memory", "memories");
        let tables = count_text(needs.tables, "table", "tables");
        let (memory, elements) = (format_size(needs.initial_memory), needs.table_elements);
        write_row(f, "needs", format!("{memories} of {memory}\n{tables} of {elements} elements"))?;
    }
    Ok(())
}

fn count_text(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn write_settings(
    f: &mut fmt::Formatter<'_>,
    settings: &EffectiveSettings,
    hooks: &[Hook],
) -> fmt::Result {
    match &settings.file {
        Some(file) => write_row(f, "settings", file.display())?,
        None => write_row(f, "settings", "none (defaults)")?,
    }
    if !settings.config.is_empty() {
        write_row(f, "config", settings.config.join(", "))?;
    }
    let platforms = settings.platforms.iter().map(|platform| platform.name);
    let platforms = platforms.collect::<Vec<_>>().join(", ");
    let platform_list =
        if platforms.is_empty() { String::new() } else { format!(" of {platforms}") };
    let fields = settings.matches.iter();
    let fields = fields.map(|(field, patterns)| format!("{field} {}", patterns.join(", ")));
    let fields = fields.collect::<Vec<_>>().join("\n");
    let call_scope = if fields.is_empty() { "every call" } else { "calls" };
    write_row(f, "matches", format!("{call_scope}{platform_list}\n{fields}").trim_end())?;
    let is_relevant = |hook: &Hook| hooks.is_empty() || hooks.contains(hook);
    if is_relevant(&Hook::Observer) {
        let kinds: Vec<&str> = settings.events.iter().map(|kind| kind.name()).collect();
        let all = kinds.len() == EventKind::ALL.len();
        write_row(f, "events", if all { "every event".to_owned() } else { kinds.join(", ") })?;
    }
    let limits = &settings.limits;
    let format_millis = |millis| format_duration(Duration::from_millis(millis));
    let mut limit_rows = Vec::new();
    if is_relevant(&Hook::Router) || is_relevant(&Hook::Transfers) {
        limit_rows.push(("timeout", format_millis(limits.timeout_ms)));
    }
    if is_relevant(&Hook::Observer) {
        limit_rows.push(("event_timeout", format_millis(limits.event_timeout_ms)));
    }
    if is_relevant(&Hook::Tools) {
        limit_rows.push(("tool_timeout", format_millis(limits.tool_timeout_ms)));
    }
    limit_rows.push(("memory", format_size(limits.memory as u64)));
    write_row(
        f,
        "limits",
        format_columns(limit_rows.iter().map(|(name, bound)| (*name, &**bound))),
    )?;
    let grants = &settings.grants;
    let http = grants.http.iter().map(|entry| format!("http to {entry}"));
    let flags = [("kv", grants.kv), ("metrics", grants.metrics)];
    let flags = flags.iter().filter(|(_, granted)| *granted).map(|(name, _)| (*name).to_owned());
    let grants: Vec<String> = flags.chain(http).collect();
    write_row(f, "grants", if grants.is_empty() { "nothing".to_owned() } else { grants.join("\n") })
}
