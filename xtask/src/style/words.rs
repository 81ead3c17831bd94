//! Word list: finds listed words and phrases in any text file.

use std::collections::HashMap;

use super::list::{ALLOWED, PATH, WORDS};

/// Listed word in a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Hit {
    pub line: usize,
    pub word: &'static str,
    pub alternative: &'static str,
}

/// Literal data that keeps a listed word.
struct Allowed {
    path: &'static str,
    text: &'static str,
    is_used: bool,
}

/// Search for listed words, with the state of the allow list.
pub struct Search {
    /// Entries of [`WORDS`] by their first word, in lower case.
    listed: HashMap<String, Vec<(&'static str, &'static str)>>,
    allowed: Vec<Allowed>,
}

impl Search {
    /// Prepares a search with the repository's allow list.
    pub fn new() -> Self {
        Self::with(ALLOWED)
    }

    fn with(allowed: &[(&'static str, &'static str, &'static str)]) -> Self {
        let allowed = allowed.iter().map(|(path, text, _)| Allowed { path, text, is_used: false });
        let mut listed: HashMap<String, Vec<_>> = HashMap::new();
        for entry in WORDS {
            let first = entry.0.split([' ', '_']).next().unwrap_or_default();
            listed.entry(first.to_lowercase()).or_default().push(*entry);
        }
        Self { listed, allowed: allowed.collect() }
    }

    /// Returns the listed words of a file that the allow list does not cover. `path` is
    /// relative to the root and has forward slashes.
    pub fn file(&mut self, path: &str, text: &str) -> Vec<Hit> {
        if path == PATH {
            return Vec::new();
        }
        let words = split(text);
        let mut hits = Vec::new();
        for (index, first) in words.iter().enumerate() {
            let rest = words.get(index..).unwrap_or_default();
            let listed = self.listed.get(&first.text.to_lowercase()).into_iter().flatten();
            let mut listed = listed.filter(|(word, _)| matches(text, rest, word));
            if let Some(&(word, alternative)) = listed.next()
                && !self.is_allowed(path, text, first)
            {
                hits.push(Hit { line: first.line, word, alternative });
            }
        }
        hits
    }

    /// Describes the entries of the allow list that covered no word so far.
    pub fn unused(&self) -> Vec<String> {
        let unused = self.allowed.iter().filter(|entry| !entry.is_used);
        unused
            .map(|entry| {
                format!(
                    "{PATH}: {:?} in {} covers no listed word: remove it from ALLOWED",
                    entry.text, entry.path
                )
            })
            .collect()
    }

    fn is_allowed(&mut self, path: &str, text: &str, word: &Word) -> bool {
        let line_start = text.get(..word.start).and_then(|before| before.rfind('\n'));
        let line_start = line_start.map_or(0, |newline| newline + 1);
        let line = text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let (start, end) = (word.start - line_start, word.end() - line_start);
        let entry = self.allowed.iter_mut().find(|entry| {
            entry.path == path
                && line
                    .match_indices(entry.text)
                    .any(|(at, found)| at <= start && end <= at + found.len())
        });
        if let Some(entry) = entry {
            entry.is_used = true;
            return true;
        }
        false
    }
}

/// Run of letters and digits.
struct Word<'a> {
    text: &'a str,
    start: usize,
    line: usize,
}

impl Word<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// Splits a text into words. An escape such as `\n` ends a word.
fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut line = 1;
    let mut is_escape = false;
    for (at, character) in text.char_indices().chain([(text.len(), ' ')]) {
        let is_word = character.is_alphanumeric() && !is_escape;
        is_escape = character == '\\' && !is_escape;
        if is_word {
            start.get_or_insert(at);
        } else if let Some(start) = start.take() {
            words.push(Word { text: text.get(start..at).unwrap_or_default(), start, line });
        }
        line += usize::from(character == '\n');
    }
    words
}

/// Returns whether a text's words begin with a listed word or phrase.
fn matches(text: &str, words: &[Word], listed: &str) -> bool {
    let (separator, is_identifier) = if listed.contains('_') { ('_', true) } else { (' ', false) };
    let joins = |gap: &str| if is_identifier { gap == "_" } else { is_space(gap) };
    let mut previous: Option<&Word> = None;
    let mut words = words.iter();
    for part in listed.split(separator) {
        let Some(word) = words.next() else { return false };
        let gap = previous.and_then(|previous| text.get(previous.end()..word.start));
        if !word.text.eq_ignore_ascii_case(part)
            || word.text == "None"
            || gap.is_some_and(|gap| !joins(gap))
        {
            return false;
        }
        previous = Some(word);
    }
    true
}

/// Returns whether a gap between words is white space. At the end of a line, the gap may
/// have the markers of comments, quotations and strings.
fn is_space(gap: &str) -> bool {
    let is_marker = |it: char| it.is_whitespace() || "/!*#>|\\\"".contains(it);
    !gap.is_empty() && (gap.trim().is_empty() || gap.contains('\n') && gap.chars().all(is_marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let hits = Search::with(&[]).file(path, text);
        hits.into_iter().map(|hit| (hit.line, hit.word)).collect()
    }

    /// A listed word that is no part of another entry.
    const SINGLE: &str = WORDS[0].0;

    #[test]
    fn each_word_is_found() {
        for (word, alternative) in WORDS {
            let capitals = word.to_uppercase();
            for text in [format!("\nThe {word}."), format!("\n\"{capitals}\"\n")] {
                let found = hits("a.md", &text);
                assert!(found.contains(&(2, word)), "{text}: {found:?}");
            }
            assert!(!alternative.is_empty());
        }
    }

    #[test]
    fn only_whole_words_are_found() {
        assert!(hits("a.rs", &format!("un{SINGLE} {SINGLE}s {SINGLE}é")).is_empty());
        let text = format!("fn {SINGLE}_waits() {{}} // {SINGLE}'s, \\n{SINGLE}");
        assert_eq!(hits("a.rs", &text), [(1, SINGLE); 3]);
    }

    #[test]
    fn phrases_extend_over_lines_but_not_over_code() {
        let (phrase, _) = WORDS.iter().find(|(word, _)| word.contains(' ')).unwrap();
        for gap in ["  ", "\n", "\n    /// ", "\n//! ", "\n> ", " \\\n    "] {
            let text = format!("/// {}", phrase.replace(' ', gap));
            assert_eq!(hits("a.rs", &text), [(1, *phrase)], "{text}");
        }
        for gap in [", ", "_", "", "/"] {
            assert!(hits("a.rs", &phrase.replace(' ', gap)).is_empty(), "{gap}");
        }
    }

    #[test]
    fn identifiers_do_not_match_phrases() {
        assert!(hits("a.rs", "if it.is_none() {}").is_empty());
        assert!(hits("a.py", "if it is None:").is_empty());
        let (name, _) = WORDS.iter().find(|(word, _)| word.contains('_')).unwrap();
        assert_eq!(hits("a.rs", &format!("plugin_{name}_total")), [(1, *name)]);
        assert!(hits("a.rs", &name.replace('_', "-")).is_empty());
    }

    #[test]
    fn allow_list_covers_its_text_in_its_file() {
        let text: &'static str = format!("say {SINGLE} again").leak();
        let entry = ("tests/a.rs", text, "transcript");
        let mut search = Search::with(&[entry]);
        assert_eq!(search.unused().len(), 1);
        assert_eq!(search.file("b.rs", text).len(), 1);
        assert_eq!(search.file("tests/a.rs", &format!("\n// {SINGLE} else\n")).len(), 1);
        assert_eq!(search.unused().len(), 1);
        let line = format!("\n{SINGLE}: {text}");
        let found = search.file("tests/a.rs", &line);
        assert_eq!(found.iter().map(|hit| hit.line).collect::<Vec<_>>(), [2]);
        assert!(search.unused().is_empty());
    }

    #[test]
    fn allow_list_has_reasons() {
        assert!(ALLOWED.iter().all(|(_, text, reason)| !text.is_empty() && !reason.is_empty()));
    }

    #[test]
    fn list_itself_is_exempt() {
        let list = include_str!("list.rs");
        assert!(PATH.ends_with("/list.rs") && hits(PATH, list).is_empty());
        assert!(!hits("other.rs", list).is_empty());
    }
}
