//! Tracing spans of plugins.

use tracing::field::Empty;
use tracing::{Level, Span, span};

use super::Plugin;
use super::contract::Hook;
use plugboard_core::span::{CHILD_TARGET, ROOT_TARGET, is_enabled};

/// Creates the span of a call of a hook.
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

/// Creates the root span of loading a version of a plugin.
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
