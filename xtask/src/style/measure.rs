//! Measures of comments and test names in Rust sources.

use super::lexer::{Comment, Kind, Token, lex};
use super::list::{NAME_WORDS, OPENINGS, PRONOUNS};

/// Number of words up to which a comment is short.
const SHORT: usize = 3;

/// Property of comments or test names that has an upper limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    Pronoun,
    Opening,
    TestName,
    ShortComment,
}

impl Measure {
    /// All measures, in the order of the report.
    pub const ALL: [Self; 4] = [Self::Pronoun, Self::Opening, Self::TestName, Self::ShortComment];

    /// The upper limit, in the unit of [`Measure::scale`].
    pub fn limit(self) -> usize {
        match self {
            Self::Pronoun => 2,
            Self::Opening => 3,
            Self::TestName => 1,
            Self::ShortComment => 4,
        }
    }

    /// Denominator of the figure: per cent, or per 1,000 words.
    pub fn scale(self) -> usize {
        if self == Self::Pronoun { 1_000 } else { 100 }
    }

    /// Name of the figure, with its unit.
    pub fn title(self) -> String {
        match self {
            Self::Pronoun => format!("{} per 1,000 words of comments", PRONOUNS.join(", ")),
            Self::Opening => format!("% of comments that begin with {}", OPENINGS.join(", ")),
            Self::TestName => format!("% of test names that contain {}", NAME_WORDS.join(", ")),
            Self::ShortComment => format!("% of comments of {SHORT} words or fewer"),
        }
    }

    /// Label of one finding in a list.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pronoun => "pronoun",
            Self::Opening => "opening",
            Self::TestName => "test name",
            Self::ShortComment => "short comment",
        }
    }
}

/// Place in a source that counts towards a measure.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub measure: Measure,
    pub line: usize,
    pub text: String,
}

/// Sums over one source or over several.
#[derive(Debug, Default)]
pub struct Totals {
    pub words: usize,
    pub comments: usize,
    pub tests: usize,
}

impl Totals {
    /// Adds the sums of another source.
    pub fn add(&mut self, other: &Self) {
        self.words += other.words;
        self.comments += other.comments;
        self.tests += other.tests;
    }

    /// Returns the number of places that could count towards a measure.
    pub fn of(&self, measure: Measure) -> usize {
        match measure {
            Measure::Pronoun => self.words,
            Measure::Opening | Measure::ShortComment => self.comments,
            Measure::TestName => self.tests,
        }
    }
}

/// Measures one Rust source.
pub fn measure(source: &str) -> (Totals, Vec<Finding>) {
    let tokens = lex(source);
    let mut totals = Totals::default();
    let mut findings = Vec::new();
    for block in blocks(&tokens) {
        totals.comments += 1;
        totals.words += measure_block(&block, &mut findings);
    }
    for (line, name) in test_names(&tokens) {
        totals.tests += 1;
        if name.split('_').any(|word| NAME_WORDS.contains(&word)) {
            let text = name.to_owned();
            findings.push(Finding { measure: Measure::TestName, line, text });
        }
    }
    findings.sort_by_key(|finding| finding.line);
    (totals, findings)
}

/// Lines of consecutive comments, each with its number.
type Block<'a> = Vec<(usize, &'a str)>;

/// Joins comments on consecutive lines that have the same markers and the same column.
fn blocks<'a>(tokens: &[Token<'a>]) -> Vec<Block<'a>> {
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut last: Option<&Comment> = None;
    for token in tokens {
        let Token::Comment(comment) = token else { continue };
        let continues = last.is_some_and(|last| {
            comment.has_own_line
                && comment.kind != Kind::Block
                && (comment.line, comment.column, comment.kind)
                    == (last.line + 1, last.column, last.kind)
        });
        last = Some(comment);
        let lines = comment.text.split('\n').enumerate();
        let lines = lines.map(|(index, text)| (comment.line + index, text));
        match blocks.last_mut().filter(|_| continues) {
            Some(block) => block.extend(lines),
            None => blocks.push(lines.collect()),
        }
    }
    blocks
}

/// Measures one block, and returns its number of words. Code in fences does not count.
fn measure_block(block: &Block, findings: &mut Vec<Finding>) -> usize {
    let first = block.iter().find(|(_, text)| !text.trim().is_empty()).or(block.first());
    let (first_line, first_text) = first.map_or((0, ""), |(line, text)| (*line, text.trim()));
    let mut count = 0;
    let (mut has_fence, mut is_fenced, mut is_code) = (false, false, false);
    for (line, text) in block {
        let text = text.trim().trim_start_matches("* ");
        if text.starts_with("```") {
            is_fenced = !is_fenced;
            has_fence = true;
            continue;
        }
        if is_fenced {
            continue;
        }
        // A code span does not extend beyond its paragraph.
        is_code &= !text.is_empty();
        for (index, span) in text.split('`').enumerate() {
            is_code ^= index > 0;
            for word in span.split_whitespace().filter(|word| word.contains(char::is_alphanumeric))
            {
                count += 1;
                let mut parts = word.split(|it: char| !it.is_alphanumeric() && it != '_');
                let part = parts.clone().find(|part| !part.is_empty()).unwrap_or_default();
                if count == 1 && !is_code && contains(OPENINGS, part) {
                    let text = first_text.to_owned();
                    findings.push(Finding { measure: Measure::Opening, line: first_line, text });
                }
                if !is_code && parts.any(|part| contains(PRONOUNS, part)) {
                    let text = text.to_owned();
                    findings.push(Finding { measure: Measure::Pronoun, line: *line, text });
                }
            }
        }
    }
    if count <= SHORT && !has_fence {
        let text = first_text.to_owned();
        findings.push(Finding { measure: Measure::ShortComment, line: first_line, text });
    }
    count
}

fn contains(list: &[&str], word: &str) -> bool {
    list.iter().any(|listed| listed.eq_ignore_ascii_case(word))
}

/// Returns the line and name of each function with an attribute such as `#[test]` or
/// `#[tokio::test(...)]`, also inside macros such as `proptest!`.
fn test_names<'a>(tokens: &[Token<'a>]) -> Vec<(usize, &'a str)> {
    let mut names = Vec::new();
    let mut is_test = false;
    let mut code = tokens.iter().filter(|token| !matches!(token, Token::Comment(_)));
    while let Some(token) = code.next() {
        let mut rest = code.clone();
        match (token, rest.next()) {
            (Token::Symbol('#'), Some(Token::Symbol('['))) => {
                let path = rest.map_while(|token| match token {
                    Token::Word(_, word) => Some(*word),
                    Token::Symbol(':') => Some(""),
                    _ => None,
                });
                is_test |= matches!(path.last(), Some("test" | "rstest" | "quickcheck"));
            }
            (Token::Word(_, "fn"), Some(Token::Word(line, name)))
                if std::mem::take(&mut is_test) =>
            {
                names.push((*line, *name));
            }
            _ => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of the findings of one measure.
    fn lines(source: &str, measure: Measure) -> Vec<usize> {
        let findings = super::measure(source).1.into_iter();
        findings.filter(|it| it.measure == measure).map(|it| it.line).collect()
    }

    #[test]
    fn pronouns_count_in_prose_only() {
        let source = "//! The caller who waits, and what\n//! the caller wants: WHOM?\n\n\
            // The field `who` has no meaning: `what it\n// is` stays code, what's outside not.\n\
            /// An open ` ends\n///\n/// here: what counts.\n\
            /// ```\n/// let it = who(what);\n/// ```\n\
            let url = \"http://who/what\"; // The somewhat whole one.\n";
        assert_eq!(lines(source, Measure::Pronoun), [1, 1, 2, 5, 8]);
        assert_eq!(super::measure("/// Two words.\n/// And `three` more.\n").0.words, 5);
    }

    #[test]
    fn openings_count_once_per_block() {
        let source = "/// What it is.\n/// What it was.\nfn f() {} // of it\n\
            //\n// \"For\" ever.\n\n// Fortune and more.\n\n/// `What` is code.\n\
            /** Whether\n * it is. */\n//! How\n/// How\n";
        assert_eq!(lines(source, Measure::Opening), [1, 3, 5, 10, 12, 13]);
        assert_eq!(super::measure(source).0.comments, 8);
    }

    #[test]
    fn trailing_comment_continues_in_its_column() {
        assert_eq!(super::measure("f(); // one\n     // two\n").0.comments, 1);
        assert_eq!(super::measure("f(); // one\ng(); // two\n// three\n").0.comments, 3);
    }

    #[test]
    fn short_comments_have_three_words_or_fewer() {
        let source = "/// One `two` three.\n\n// One two three four.\n\n// One\n// two\n\n\
            /// ```\n/// code\n/// ```\n\n// ----\n";
        assert_eq!(lines(source, Measure::ShortComment), [1, 5, 12]);
    }

    #[test]
    fn test_names_are_found_by_attribute() {
        let source = "#[test]\nfn who_waits() {}\n#[cfg(test)]\nfn what_helps() {}\n\
            #[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\nasync fn finds_nothing() {}\n\
            proptest! {\n    #[test]\n    fn accepts_what(it in 0..9) {}\n}\n\
            #[test]\nfn whole_is_somewhat() {}\nfn nothing() {}\n";
        let (totals, _) = super::measure(source);
        assert_eq!((lines(source, Measure::TestName), totals.tests), (vec![2, 7, 10], 4));
    }

    #[test]
    fn string_contents_are_not_measured() {
        let source = "let it = \"// What\"; let raw = r#\"/// Of \"#;";
        assert!(super::measure(source).1.is_empty());
        assert_eq!(super::measure(source).0.comments, 0);
    }
}
