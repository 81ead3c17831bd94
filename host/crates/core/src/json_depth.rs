//! The limit on the nesting of untrusted JSON.

use thiserror::Error;

/// Largest number of nested arrays and objects. Half of the limit of `serde_json`, which
/// guests use; documents of real platforms have five.
pub const MAX_DEPTH: usize = 64;

/// JSON that is nested deeper than [`MAX_DEPTH`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("it is nested deeper than {MAX_DEPTH} arrays and objects")]
pub struct TooDeep;

/// Checks the nesting of a document, because a recursive parser (in the host or a guest)
/// would overflow its stack. Does not check that it is valid JSON.
///
/// # Errors
///
/// Fails if it is nested deeper than [`MAX_DEPTH`].
pub fn check(json: &[u8]) -> Result<(), TooDeep> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(TooDeep);
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_ignores_brackets_in_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(check(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(check(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(check("{}".repeat(1_000).as_bytes()).is_ok());
        let text = format!(r#"{{"a\\":"\"{}","b":[]}}"#, "[".repeat(1_000));
        assert!(check(text.as_bytes()).is_ok());
        let after = format!(r#"{{"a":"\\",{}"#, "[".repeat(1_000));
        assert!(check(after.as_bytes()).is_err());
    }
}
