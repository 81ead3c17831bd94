//! Comparison of outputs with the documented answers.

use super::page::Block;

/// Returns whether output matches the documented answer. In the answer, `…` matches any
/// text, and a digit matches any digit.
pub fn matches_answer(block: &Block, output: &str) -> bool {
    let mask = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
        lines.map(|line| line.chars().map(digit).collect()).collect()
    };
    let (patterns, lines) = (mask(&block.text), mask(output));
    patterns.len() == lines.len()
        && patterns.iter().zip(&lines).all(|(pattern, line)| matches_pattern(pattern, line))
}

/// Returns whether a line contains the parts between the `…` of a pattern in this order.
fn matches_pattern(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|start| line.strip_prefix(start)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((end, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(end)
}

#[test]
fn answer_matches_pattern_except_variable_parts() {
    for (pattern, line, expected) in [
        (r#"{"a":"00"}"#, r#"{"a":"00"}"#, true),
        (r#"{"a":"00"}"#, r#"{"b":"00"}"#, false),
        ("a…c", "a b c", true),
        ("a…c…", "a b c d", true),
        ("a…c", "a b d", false),
        ("a…x…c", "a b c", false),
        ("a", "a b", false),
    ] {
        assert_eq!(matches_pattern(pattern, line), expected, "{pattern} {line}");
    }
}
