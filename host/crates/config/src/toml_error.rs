//! TOML parsing with errors for operators: file, line, and the nearest valid name.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use thiserror::Error;

/// An error in a TOML document.
#[derive(Debug, Error)]
#[error("{file}{}: {message}{}", Line(.line), Meant(.meant))]
pub struct TomlError {
    /// The file's path, as given.
    pub file: String,
    /// The line, from 1. None: the error has no single place.
    pub line: Option<usize>,
    /// The error.
    pub message: String,
    /// The valid name nearest to an unknown one.
    pub meant: Option<String>,
}

struct Line<'a>(&'a Option<usize>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

struct Meant<'a>(&'a Option<String>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |meant| write!(f, "; did you mean `{meant}`?"))
    }
}

/// Parses a document.
///
/// # Errors
///
/// Fails if it is not TOML, or does not deserialize into `T`.
pub fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            let before = text.get(..span.start).unwrap_or(text);
            before.bytes().filter(|byte| *byte == b'\n').count() + 1
        });
        let message = error.message().trim_end().to_owned();
        TomlError { file: file.display().to_string(), line, meant: suggest(&message), message }
    })
}

/// Returns the expected name nearest to the unknown one, from serde's message. Serde quotes
/// both in backticks, the unknown one first.
pub fn suggest(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted).map(str::to_owned)
}

/// Returns the candidate most similar to `name`, or None if none is similar.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "timeout")]
        _timeout: Option<String>,
        #[serde(rename = "memory")]
        _memory: Option<String>,
    }

    fn error(text: &str) -> String {
        parse::<Sample>(text, Path::new("a.toml")).unwrap_err().to_string()
    }

    #[test]
    fn unknown_key_error_has_line_and_suggestion() {
        let error = error("memory = \"1\"\n\ntimeuot = \"2\"\n");
        assert!(error.starts_with("a.toml:3: unknown field `timeuot`"), "{error}");
        assert!(error.ends_with("did you mean `timeout`?"), "{error}");
    }

    #[test]
    fn dissimilar_key_gets_no_suggestion() {
        assert!(!error("qqq = 1").contains("did you mean"));
    }

    #[test]
    fn syntax_error_has_line() {
        let error = error("memory = \"1\"\ntimeout = \n");
        assert!(error.starts_with("a.toml:2: "), "{error}");
    }
}
