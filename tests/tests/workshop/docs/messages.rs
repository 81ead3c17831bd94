//! Messages of the program that pages quote in `log` blocks.

use std::fs;
use std::path::Path;

use super::page::{pages, root};

#[test]
fn quoted_messages_are_in_the_source() {
    let source = source_text(&root().join("host"));
    let (mut quoted, mut missing) = (0, Vec::new());
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "log") {
            for line in block.text.lines() {
                quoted += 1;
                // `…` stands for a value.
                if !line.split('…').all(|part| source.contains(part.trim())) {
                    missing.push(format!("{}:{}: {line}", page.name, block.line));
                }
            }
        }
    }
    assert!(missing.is_empty(), "messages that the program does not have:\n{}", missing.join("\n"));
    assert!(quoted > 20, "only {quoted}");
}

/// Returns the Rust source below a folder, with each string literal on one line.
fn source_text(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &source_text(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &join_literals(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

/// Joins the lines of string literals, and replaces their escaped quotes.
fn join_literals(source: &str) -> String {
    let (mut text, mut is_continued) = (String::new(), false);
    for line in source.lines() {
        let line = if is_continued { line.trim_start() } else { line };
        let start = line.strip_suffix('\\');
        is_continued = start.is_some();
        text += start.unwrap_or(line);
        if !is_continued {
            text.push('\n');
        }
    }
    text.replace("\\\"", "\"")
}

#[test]
fn literals_are_joined() {
    let source = "let a = \"one \\\n    two \\\"three\\\"\";\nlet b;\n";
    assert_eq!(join_literals(source), "let a = \"one two \"three\"\";\nlet b;\n");
}
