//! Lexer for Rust sources: separates comments from code and from literals.

/// Token of a source file. White space and literals are left out.
#[derive(Debug, PartialEq, Eq)]
pub enum Token<'a> {
    Comment(Comment<'a>),
    /// An identifier, a keyword or a part of a number, with the number of its line.
    Word(usize, &'a str),
    Symbol(char),
}

/// Comment of one line, or one block comment.
#[derive(Debug, PartialEq, Eq)]
pub struct Comment<'a> {
    /// Line number of its first character; lines count from 1.
    pub line: usize,
    /// Offset of its first character in that line, in bytes.
    pub column: usize,
    pub kind: Kind,
    /// True if only white space precedes the comment on its line.
    pub has_own_line: bool,
    /// The text without its markers.
    pub text: &'a str,
}

/// Markers of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Comment after `//`, without documentation.
    Line,
    /// Documentation after `///`, of the next item.
    OuterDoc,
    /// Documentation after `//!`, of the enclosing item.
    InnerDoc,
    /// Comment between `/*` and `*/`, with documentation or without.
    Block,
}

/// Splits a source file into tokens. An unterminated comment or literal extends to the end
/// of the file.
pub fn lex(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut line, mut line_start) = (0, 1, 0);
    while let Some(rest) = source.get(start..).filter(|rest| !rest.is_empty()) {
        let (length, class) = next(rest);
        let text = rest.get(..length).unwrap_or(rest);
        match class {
            Class::Ignored => {}
            Class::Word => tokens.push(Token::Word(line, text)),
            Class::Symbol => tokens.extend(text.chars().next().map(Token::Symbol)),
            Class::Comment => {
                let before = source.get(line_start..start).unwrap_or_default();
                let (kind, body) = strip_markers(text);
                tokens.push(Token::Comment(Comment {
                    line,
                    column: start - line_start,
                    kind,
                    has_own_line: before.trim().is_empty(),
                    text: body,
                }));
            }
        }
        line += text.matches('\n').count();
        if let Some(newline) = text.rfind('\n') {
            line_start = start + newline + 1;
        }
        start += text.len();
    }
    tokens
}

enum Class {
    /// White space, a literal or a lifetime.
    Ignored,
    Comment,
    Word,
    Symbol,
}

/// Returns the length in bytes and the class of the first token. `rest` is not empty.
fn next(rest: &str) -> (usize, Class) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Class::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment_length(rest), Class::Comment);
    }
    let first = rest.chars().next().unwrap_or_default();
    match first {
        '"' => (1 + quoted_length(rest.get(1..).unwrap_or_default(), '"'), Class::Ignored),
        '\'' => (character_length(rest), Class::Ignored),
        _ if is_word(first) => {
            let length = rest.find(|other| !is_word(other)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(length);
            match raw_string_length(word, after) {
                Some(raw) => (length + raw, Class::Ignored),
                None => (length, Class::Word),
            }
        }
        _ if first.is_whitespace() => (first.len_utf8(), Class::Ignored),
        _ => (first.len_utf8(), Class::Symbol),
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns the length of a block comment; block comments can be nested.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(text) = rest.get(at..).filter(|text| !text.is_empty()) {
        if text.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Returns the length up to and including the closing quote. `body` begins after the
/// opening quote.
fn quoted_length(body: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, character) in body.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    body.len()
}

/// Returns the length of a character literal or of a lifetime.
fn character_length(rest: &str) -> usize {
    let body = rest.get(1..).unwrap_or_default();
    let mut characters = body.chars();
    let first = characters.next().unwrap_or_default();
    if first == '\\' || characters.next() == Some('\'') {
        return 1 + quoted_length(body, '\'');
    }
    1 + body.find(|other| !is_word(other)).unwrap_or(body.len())
}

/// Returns the length of a raw string after its prefix, or `None` for other tokens.
fn raw_string_length(prefix: &str, after: &str) -> Option<usize> {
    if !matches!(prefix, "r" | "br" | "cr") {
        return None;
    }
    let body = after.trim_start_matches('#');
    let hashes = after.get(..after.len() - body.len())?;
    let content = body.strip_prefix('"')?;
    let end = format!("\"{hashes}");
    let length = content.find(&end).map_or(content.len(), |at| at + end.len());
    Some(hashes.len() + 1 + length)
}

fn strip_markers(comment: &str) -> (Kind, &str) {
    if let Some(body) = comment.strip_prefix("/*") {
        let body = body.strip_suffix("*/").unwrap_or(body);
        return (Kind::Block, body.trim_start_matches(['*', '!']));
    }
    let body = comment.strip_prefix("//").unwrap_or(comment);
    if let Some(doc) = body.strip_prefix('!') {
        return (Kind::InnerDoc, doc);
    }
    match body.strip_prefix('/') {
        Some(doc) if !doc.starts_with('/') => (Kind::OuterDoc, doc),
        _ => (Kind::Line, body.trim_start_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comments(source: &str) -> Vec<(usize, Kind, bool, &str)> {
        let comments = lex(source).into_iter().filter_map(|token| match token {
            Token::Comment(it) => Some((it.line, it.kind, it.has_own_line, it.text.trim())),
            _ => None,
        });
        comments.collect()
    }

    fn words(source: &str) -> Vec<&str> {
        let words = lex(source).into_iter().filter_map(|token| match token {
            Token::Word(_, word) => Some(word),
            _ => None,
        });
        words.collect()
    }

    #[test]
    fn comments_have_kind_line_and_text() {
        let source = "//! Crate.\n\n/// Item.\nfn f() {} // Trailing.\n    //// Ruler.\n\
                      /* One\n/* nested */ */ /** Doc */\n// Last";
        let expected = [
            (1, Kind::InnerDoc, true, "Crate."),
            (3, Kind::OuterDoc, true, "Item."),
            (4, Kind::Line, false, "Trailing."),
            (5, Kind::Line, true, "Ruler."),
            (6, Kind::Block, true, "One\n/* nested */"),
            (7, Kind::Block, false, "Doc"),
            (8, Kind::Line, true, "Last"),
        ];
        assert_eq!(comments(source), expected);
    }

    #[test]
    fn literals_are_not_comments() {
        for literal in [
            r#""https://host // path /* no""#,
            r#""\" // no""#,
            r#""\\""#,
            r##"r"\" "##,
            r###"r#"" // no"#"###,
            r####"br##""# // no"##"####,
            r#"b"// no""#,
            r"'\''",
            r"'\\'",
            r"'\u{2f}'",
            "'\"'",
            "'/'",
            "b'\"'",
            "'ä'",
        ] {
            let source = format!("let it = {literal}; // Yes\n");
            let found = comments(&source);
            assert_eq!(found, [(1, Kind::Line, false, "Yes")], "{literal}");
        }
    }

    #[test]
    fn lifetimes_do_not_open_literals() {
        let source = "fn f<'a, 'b>(x: &'a str) -> &'static str {} // Yes";
        assert_eq!(comments(source), [(1, Kind::Line, false, "Yes")]);
        assert_eq!(words(source), ["fn", "f", "x", "str", "str"]);
        assert_eq!(words("'outer: loop { r#type }"), ["loop", "r", "type"]);
    }

    #[test]
    fn lines_count_inside_literals_and_unterminated_tokens_end() {
        let source = "let a = \"one\\\ntwo\n\"; // Three";
        assert_eq!(comments(source), [(3, Kind::Line, false, "Three")]);
        for source in ["\"open", "r#\"open\"", "'", "'\\", "/* open /* */", "'a", "/"] {
            assert!(lex(source).len() <= 1, "{source}");
        }
    }
}
