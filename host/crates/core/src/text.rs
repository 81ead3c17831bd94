//! Sanitizing of untrusted text for messages and logs.

use std::borrow::Cow;

/// Truncates a text to `max_len` bytes and replaces control characters with spaces, so that it
/// cannot begin a new line of the log.
pub fn sanitize(text: &str, max_len: usize) -> String {
    truncate(text, max_len).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Truncates a text to at most `max_len` bytes, on a character boundary. A truncated text
/// ends with an additional `…`.
pub fn truncate(text: &str, max_len: usize) -> Cow<'_, str> {
    if text.len() <= max_len {
        return Cow::Borrowed(text);
    }
    let end = (0..=max_len).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncate_keeps_characters_whole() {
        assert_eq!(truncate("abc", 3), "abc");
        assert_eq!(truncate("abcd", 3), "abc…");
        assert_eq!(truncate("aé", 2), "a…");
    }

    #[test]
    fn sanitize_removes_control_characters() {
        assert_eq!(sanitize("a\nINFO b\u{1b}[31m", 20), "a INFO b [31m");
    }
}
