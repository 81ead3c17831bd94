//! Text from guests and callers, made fit for messages and logs.

use std::borrow::Cow;

/// A guest's text for a message of ours: cut, and on one line, so that it cannot
/// look like anything but a part of it.
pub fn sanitize(text: &str, max_len: usize) -> String {
    truncate(text, max_len).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The text, or as much of it as fits with a mark that it was cut.
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
