//! A guest's words in the host's log, bounded.

use std::borrow::Cow;
use std::sync::Arc;

/// Longest message in bytes; longer ones are cut.
pub const MAX_MESSAGE: usize = 4 * 1024;

/// Lines that one call may log.
pub const MAX_LINES: u32 = 100;

/// Of the last error, what is kept to explain a trap.
const MAX_REMEMBERED: usize = 512;

/// The contract's levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
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
pub struct Log {
    plugin: Arc<str>,
    call: String,
    lines: u32,
    last_error: Option<String>,
}

impl Log {
    /// The log of one plugin for one call.
    pub fn new(plugin: Arc<str>, call: String) -> Self {
        Self { plugin, call, lines: 0, last_error: None }
    }

    /// Writes a line, unless the call has written its share.
    pub fn write(&mut self, level: Level, message: &str) {
        self.lines = self.lines.saturating_add(1);
        if level == Level::Error {
            self.last_error = Some(quote(message, MAX_REMEMBERED));
        }
        if self.lines > MAX_LINES {
            return;
        }
        let message = cut(message, MAX_MESSAGE);
        let (plugin, call) = (&*self.plugin, &*self.call);
        // As a field: a line feed or an escape sequence in what a guest says must
        // not look like a line of ours.
        match level {
            Level::Trace => tracing::trace!(target: TARGET, plugin, call, said = &*message),
            Level::Debug => tracing::debug!(target: TARGET, plugin, call, said = &*message),
            Level::Info => tracing::info!(target: TARGET, plugin, call, said = &*message),
            Level::Warn => tracing::warn!(target: TARGET, plugin, call, said = &*message),
            Level::Error => tracing::error!(target: TARGET, plugin, call, said = &*message),
        }
    }

    /// Remembers what the guest wrote to its standard error as its last words, unless
    /// it logged an error: what the runtimes of most languages know to say of a crash
    /// stands at the end of it.
    pub fn remember(&mut self, printed: &str) {
        let printed = printed.trim();
        if self.last_error.is_some() || printed.is_empty() {
            return;
        }
        let start = printed.len().saturating_sub(MAX_REMEMBERED);
        let start = (start..=printed.len()).find(|start| printed.is_char_boundary(*start));
        let end = start.and_then(|start| printed.get(start..)).unwrap_or_default();
        let mark = if end.len() < printed.len() { "…" } else { "" };
        self.last_error = Some(format!("{mark}{}", quote(end, MAX_REMEMBERED)));
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

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(dropped) = self.lines.checked_sub(MAX_LINES).filter(|lines| *lines > 0) {
            let (plugin, call) = (&*self.plugin, &*self.call);
            tracing::warn!(target: TARGET, plugin, call, dropped, "it logged too many lines");
        }
    }
}

/// A guest's text for a message of ours: cut, and on one line, so that it cannot
/// look like anything but a part of it.
pub fn quote(text: &str, most: usize) -> String {
    cut(text, most).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text, or as much of it as fits with a mark that it was cut.
pub fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_keeps_characters_whole() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc…");
        assert_eq!(cut("aé", 2), "a…");
    }

    #[test]
    fn a_quote_stays_on_its_line() {
        assert_eq!(quote("a\nINFO b\u{1b}[31m", 20), "a INFO b [31m");
    }

    #[test]
    fn the_last_error_is_remembered_even_beyond_the_bound() {
        let mut log = Log::new("p".into(), "c".to_owned());
        for line in 0..=MAX_LINES {
            log.write(Level::Error, &format!("error {line}"));
        }
        assert_eq!(log.last_error(), Some("error 100"));
    }

    #[test]
    fn the_end_of_what_was_printed_explains_a_crash_unless_an_error_was_logged() {
        let mut log = Log::new("p".into(), "c".to_owned());
        log.remember(" \n");
        assert_eq!(log.last_error(), None);
        log.remember(&format!("{}é\nValueError: why\n", "x".repeat(MAX_REMEMBERED)));
        let said = log.last_error().unwrap();
        assert!(said.starts_with("…xx") && said.ends_with("xé ValueError: why"), "{said}");
        assert_eq!(said.len(), MAX_REMEMBERED + "…".len());
        let mut log = Log::new("p".into(), "c".to_owned());
        log.write(Level::Error, "the reason");
        log.remember("a hint");
        assert_eq!(log.last_error(), Some("the reason"));
    }
}
