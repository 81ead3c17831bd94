//! What was found out about a plugin, for people.

use std::fmt;
use std::time::Duration;

use crate::cli::rows::{columns, row, size, took};
use crate::event::EventKind;
use crate::plugin::Hook;
use crate::plugin::examine::{Anatomy, Examination, Import, Means, State, Terms};
use crate::units::duration_text;

/// Everything about one plugin.
pub(in crate::cli) struct Detailed<'a>(pub(in crate::cli) &'a Examination);

impl fmt::Display for Detailed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.0;
        writeln!(f, "{}: {}", it.name, word(it.state))?;
        row(f, "file", it.file.display())?;
        if let Some(bytes) = it.bytes {
            row(f, "size", format!("{bytes} bytes"))?;
        }
        if let Some(kind) = it.kind {
            row(f, "kind", kind)?;
        }
        let has_component = it.component.is_some();
        if let Some(component) = &it.component {
            anatomy(f, component)?;
        }
        if !it.tools.is_empty() {
            row(f, "tools", it.tools.join(", "))?;
        }
        if let Some(micros) = it.compile_us {
            row(f, "compiled", took(Duration::from_micros(micros)))?;
        }
        if let Some(trial) = &it.instance {
            let memory = size(trial.memory as u64);
            let cores = trial.core_instances.map(|count| format!("\n{count} core instances"));
            let cores = cores.unwrap_or_default();
            row(f, "instance", format!("{memory} of memory{cores}"))?;
        }
        // Without either, there is nothing that they would be for.
        let settings = it.settings.as_ref();
        if let Some(settings) = settings.filter(|it| it.file.is_some() || has_component) {
            terms(f, settings, it.hooks())?;
        }
        for warning in &it.warnings {
            row(f, "warning", warning)?;
        }
        match &it.error {
            Some(error) => row(f, "error", format!("{}: {}", error.stage.name(), error.message)),
            None => Ok(()),
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Good => "good",
        State::Broken => "broken",
        State::Disabled => "switched off by its settings (enabled)",
    }
}

fn anatomy(f: &mut fmt::Formatter<'_>, component: &Anatomy) -> fmt::Result {
    let Anatomy { contract, hooks, other_exports, imports, needs } = component;
    let versions = if contract.is_empty() { "none".to_owned() } else { contract.join(", ") };
    row(f, "contract", versions)?;
    let hooks: Vec<&str> = hooks.iter().map(|hook| hook.interface()).collect();
    row(f, "hooks", if hooks.is_empty() { "none".to_owned() } else { hooks.join(", ") })?;
    if !other_exports.is_empty() {
        row(f, "also exports", other_exports.join("\n"))?;
    }
    let from = |means| imports.iter().filter(move |import: &&Import| import.from == means);
    let named = |import: &'_ Import| import.capability().unwrap_or(&import.name).to_owned();
    let ours: Vec<_> = from(Means::Contract).map(|it| (named(it), it.purpose)).collect();
    let unknown: Vec<_> = from(Means::Unknown).map(|it| (named(it), it.purpose)).collect();
    for (title, rows) in [("imports", ours), ("unknown", unknown)] {
        if !rows.is_empty() {
            row(f, title, columns(rows.iter().map(|(name, purpose)| (&**name, *purpose))))?;
        }
    }
    let mut wasi: Vec<(&str, String)> = Vec::new();
    for Import { name, purpose, .. } in from(Means::Wasi) {
        let name = name.trim_start_matches("wasi:").split('@').next().unwrap_or_default();
        match wasi.iter_mut().find(|(known, _)| known == purpose) {
            Some((_, names)) => *names += &format!(", {name}"),
            None => wasi.push((purpose, name.to_owned())),
        }
    }
    match &*wasi {
        [] => row(f, "WASI", "nothing")?,
        rows => row(f, "WASI", columns(rows.iter().map(|(purpose, names)| (*purpose, &**names))))?,
    }
    if let Some(needs) = needs {
        let memories = of(needs.memories, "memory", "memories");
        let tables = of(needs.tables, "table", "tables");
        let (memory, elements) = (size(needs.initial_memory), needs.table_elements);
        row(f, "needs", format!("{memories} of {memory}\n{tables} of {elements} elements"))?;
    }
    Ok(())
}

fn of(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn terms(f: &mut fmt::Formatter<'_>, terms: &Terms, hooks: &[Hook]) -> fmt::Result {
    match &terms.file {
        Some(file) => row(f, "settings", file.display())?,
        None => row(f, "settings", "none: everything as by default")?,
    }
    if !terms.config.is_empty() {
        row(f, "config", terms.config.join(", "))?;
    }
    let platforms = terms.platforms.iter().map(|platform| platform.name);
    let platforms = platforms.collect::<Vec<_>>().join(", ");
    let of = if platforms.is_empty() { String::new() } else { format!(" of {platforms}") };
    let fields = terms.matches.iter();
    let fields = fields.map(|(field, patterns)| format!("{field} {}", patterns.join(", ")));
    let fields = fields.collect::<Vec<_>>().join("\n");
    let calls = if fields.is_empty() { "every call" } else { "calls" };
    row(f, "concerns", format!("{calls}{of}\n{fields}").trim_end())?;
    let has = |hook: &Hook| hooks.is_empty() || hooks.contains(hook);
    if has(&Hook::Observer) {
        let kinds: Vec<&str> = terms.events.iter().map(|kind| kind.name()).collect();
        let all = kinds.len() == EventKind::ALL.len();
        row(f, "is told of", if all { "every event".to_owned() } else { kinds.join(", ") })?;
    }
    let limits = &terms.limits;
    let span = |millis| duration_text(Duration::from_millis(millis));
    let mut bounds = Vec::new();
    if has(&Hook::Router) || has(&Hook::Transfers) {
        bounds.push(("timeout", span(limits.timeout_ms)));
    }
    if has(&Hook::Observer) {
        bounds.push(("event_timeout", span(limits.event_timeout_ms)));
    }
    if has(&Hook::Tools) {
        bounds.push(("tool_timeout", span(limits.tool_timeout_ms)));
    }
    bounds.push(("memory", size(limits.memory as u64)));
    row(f, "limits", columns(bounds.iter().map(|(name, bound)| (*name, &**bound))))?;
    let grants = &terms.grants;
    let http = grants.http.iter().map(|entry| format!("http to {entry}"));
    let flags = [("kv", grants.kv), ("metrics", grants.metrics)];
    let flags = flags.iter().filter(|(_, granted)| *granted).map(|(name, _)| (*name).to_owned());
    let grants: Vec<String> = flags.chain(http).collect();
    row(f, "grants", if grants.is_empty() { "nothing".to_owned() } else { grants.join("\n") })
}
