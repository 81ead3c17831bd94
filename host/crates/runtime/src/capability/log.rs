//! Log capability: lines of a guest in the host's log, limited in number and length.

use std::sync::Arc;

use plugboard_core::text::{sanitize, truncate};

/// Longest message in bytes; longer messages are truncated.
pub const MAX_MESSAGE: usize = 4 * 1024;

/// Maximum number of lines that one call may log.
pub const MAX_LINES: u32 = 100;

/// Longest stored part of the last error, which explains a trap, in bytes.
const MAX_LAST_ERROR: usize = 512;

/// Log levels of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Single steps of the plugin.
    Trace,
    /// Details for the plugin's author.
    Debug,
    /// Information for the server's operator.
    Info,
    /// An unexpected condition without a failure.
    Warn,
    /// A failure of the plugin.
    Error,
}

/// Log of one call of a plugin.
pub struct GuestLog {
    plugin: Arc<str>,
    call: String,
    lines: u32,
    last_error: Option<String>,
}

impl GuestLog {
    /// Creates the log of one plugin for one call.
    pub fn new(plugin: Arc<str>, call: String) -> Self {
        Self { plugin, call, lines: 0, last_error: None }
    }

    /// Writes a line, unless the call has reached [`MAX_LINES`].
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
        // The message is a field, so that a line feed or an escape sequence of the guest
        // cannot forge a line of the host.
        match level {
            LogLevel::Trace => {
                tracing::trace!(target: TARGET, plugin, call, plugin_message = &*message)
            }
            LogLevel::Debug => {
                tracing::debug!(target: TARGET, plugin, call, plugin_message = &*message)
            }
            LogLevel::Info => {
                tracing::info!(target: TARGET, plugin, call, plugin_message = &*message)
            }
            LogLevel::Warn => {
                tracing::warn!(target: TARGET, plugin, call, plugin_message = &*message)
            }
            LogLevel::Error => {
                tracing::error!(target: TARGET, plugin, call, plugin_message = &*message)
            }
        }
    }

    /// Stores the end of the guest's standard error as the last error, unless the guest
    /// logged an error. The runtimes of most languages print the reason of a crash there.
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

    /// Returns the id of the call.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// Returns the last message at level error, else the end of the standard error.
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

/// Target of the guests' log lines, for filters in `log.level`.
const TARGET: &str = "plugboard::guest";

impl Drop for GuestLog {
    fn drop(&mut self) {
        if let Some(dropped) = self.lines.checked_sub(MAX_LINES).filter(|lines| *lines > 0) {
            let (plugin, call) = (&*self.plugin, &*self.call);
            let message = "log limit of the call exceeded; lines dropped";
            tracing::warn!(target: TARGET, plugin, call, dropped, "{message}");
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
        let text = log.last_error().unwrap();
        assert!(text.starts_with("…xx") && text.ends_with("xé ValueError: why"), "{text}");
        assert_eq!(text.len(), MAX_LAST_ERROR + "…".len());
        let mut log = GuestLog::new("p".into(), "c".to_owned());
        log.write(LogLevel::Error, "the reason");
        log.record_stderr("a hint");
        assert_eq!(log.last_error(), Some("the reason"));
    }
}
