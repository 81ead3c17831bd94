//! How deep JSON from outside may be nested.

use thiserror::Error;

/// Arrays and objects within each other. Half of what `serde_json` follows, which
/// guests read with; real documents have five.
pub const MAX_DEPTH: usize = 64;

/// It is nested deeper than [`MAX_DEPTH`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("it is nested deeper than {MAX_DEPTH} arrays and objects")]
pub struct TooDeep;

/// Refuses what is nested deeper than [`MAX_DEPTH`]: whoever reads it with a stack
/// (most languages' libraries do, guests among them) would come to its end. Whether it
/// is JSON at all is for others to say.
///
/// # Errors
///
/// When it is.
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
