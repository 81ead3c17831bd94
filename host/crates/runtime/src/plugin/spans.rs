//! Tracing spans of plugins.

use tracing::field::Empty;
use tracing::{Level, Span, span};

use super::{Hook, Plugin};
use plugboard_core::span::{CHILD_TARGET, ROOT_TARGET, is_enabled};
use plugboard_store::KvCommand;

/// A plugin is asked.
pub fn plugin_span(plugin: &Plugin, hook: Hook) -> Span {
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "plugin",
        plugin.name = &**plugin.name(),
        plugin.version = %plugin.digest(),
        plugin.hook = hook.interface(),
        plugin.source = Empty,
        plugin.outcome = Empty,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A version of a plugin is loaded: a trace of its own.
pub fn load_span(name: &str) -> Span {
    if !is_enabled() {
        return Span::none();
    }
    span!(
        target: ROOT_TARGET,
        parent: None,
        Level::INFO,
        "load",
        plugin.name = name,
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A plugin reads or writes one of its values. Not which: a key may be a number.
pub fn kv_span(key: &str, command: &KvCommand) -> Span {
    let name = |command: &KvCommand| match command {
        KvCommand::Get => "kv.get",
        KvCommand::Set { .. } => "kv.set",
        KvCommand::Delete => "kv.delete",
        KvCommand::Increment { .. } => "kv.increment",
        KvCommand::Swap { .. } => "kv.compare_and_swap",
    };
    span!(
        target: CHILD_TARGET,
        Level::INFO,
        "kv",
        otel.name = name(command),
        kv.key.length = saturating_i64_len(key.len()),
        kv.value.length = saturating_i64_len(command.size()),
        error.type = Empty,
        otel.status_code = Empty,
    )
}

/// A length as attributes have them.
fn saturating_i64_len(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
