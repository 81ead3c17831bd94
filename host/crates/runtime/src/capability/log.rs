//! Log capability: lines of a guest in the host's log, limited in number and length.

use std::sync::Arc;

use plugboard_core::text::{sanitize, truncate};

/// Longest message in bytes; longer ones are cut.
pub const MAX_MESSAGE: usize = 4 * 1024;

/// Lines that one call may log.
pub const MAX_LINES: u32 = 100;

/// Of the last error, what is kept to explain a trap.
const MAX_LAST_ERROR: usize = 512;

/// The contract's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For the author.
    Debug,
    /// For the operator.
    Info,
    /// Something is odd.
    Warn,
    /// Something failed.
    Error,
}

/// One call's log.
pub struct GuestLog {
    plugin: Arc<str>,
    call: String,
    lines: u32,
    last_error: Option<String>,
}

impl GuestLog {
    /// The log of one plugin for one call.
    pub fn new(plugin: Arc<str>, call: String) -> Self {
        Self { plugin, call, lines: 0, last_error: None }
    }

    /// Writes a line, unless the call has written its share.
    pub fn write(&mut self, level: LogLevel, message: &str) {
        self.lines = self.lines.saturating_add(1);
        if level == LogLevel::Error {
            self.last_error = Some(sanitize(message, MAX_LAST_ERROR));
        }
        if self.lines > MAX_LINES {
            return;
        }
        let message = truncate(message, MAX_MESSAGE);
        let (plugin, call) = (&*self.plugin, &*self.call);
        // As a field: a line feed or an escape sequence in what a guest says must
        // not look like a line of ours.
        match level {
            LogLevel::Trace => tracing::trace!(target: TARGET, plugin, call, said = &*message),
            LogLevel::Debug => tracing::debug!(target: TARGET, plugin, call, said = &*message),
            LogLevel::Info => tracing::info!(target: TARGET, plugin, call, said = &*message),
            LogLevel::Warn => tracing::warn!(target: TARGET, plugin, call, said = &*message),
            LogLevel::Error => tracing::error!(target: TARGET, plugin, call, said = &*message),
        }
    }

    /// Remembers what the guest wrote to its standard error as its last words, unless
    /// it logged an error: what the runtimes of most languages know to say of a crash
    /// stands at the end of it.
    pub fn record_stderr(&mut self, stderr: &str) {
        let stderr = stderr.trim();
        if self.last_error.is_some() || stderr.is_empty() {
            return;
        }
        let start = stderr.len().saturating_sub(MAX_LAST_ERROR);
        let start = (start..=stderr.len()).find(|start| stderr.is_char_boundary(*start));
        let end = start.and_then(|start| stderr.get(start..)).unwrap_or_default();
        let mark = if end.len() < stderr.len() { "…" } else { "" };
        self.last_error = Some(format!("{mark}{}", sanitize(end, MAX_LAST_ERROR)));
    }

    /// The call that it is about.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// The last message at level error, else the end of what was printed.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

/// What a filter in `log.level` calls the guests' words.
const TARGET: &str = "plugboard::guest";

impl Drop for GuestLog {
    fn drop(&mut self) {
        if let Some(dropped) = self.lines.checked_sub(MAX_LINES).filter(|lines| *lines > 0) {
            let (plugin, call) = (&*self.plugin, &*self.call);
            tracing::warn!(target: TARGET, plugin, call, dropped, "it logged too many lines");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_error_is_kept_beyond_line_limit() {
        let mut log = GuestLog::new("p".into(), "c".to_owned());
        for line in 0..=MAX_LINES {
            log.write(LogLevel::Error, &format!("error {line}"));
        }
        assert_eq!(log.last_error(), Some("error 100"));
    }

    #[test]
    fn stderr_tail_is_last_error_unless_error_was_logged() {
        let mut log = GuestLog::new("p".into(), "c".to_owned());
        log.record_stderr(" \n");
        assert_eq!(log.last_error(), None);
        log.record_stderr(&format!("{}é\nValueError: why\n", "x".repeat(MAX_LAST_ERROR)));
        let said = log.last_error().unwrap();
        assert!(said.starts_with("…xx") && said.ends_with("xé ValueError: why"), "{said}");
        assert_eq!(said.len(), MAX_LAST_ERROR + "…".len());
        let mut log = GuestLog::new("p".into(), "c".to_owned());
        log.write(LogLevel::Error, "the reason");
        log.record_stderr("a hint");
        assert_eq!(log.last_error(), Some("the reason"));
    }
}
