//! Tracing spans of capabilities.

use tracing::field::Empty;
use tracing::{Level, Span, span};

use plugboard_core::span::CHILD_TARGET;
use plugboard_store::KvCommand;

/// Creates the span of one read or write of a value. It omits the key, which may contain a
/// phone number.
pub(super) fn kv_span(key: &str, command: &KvCommand) -> Span {
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

/// Returns a length in the integer type of span attributes.
fn saturating_i64_len(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
