//! ARCHITECTURE.md names only files and tests that exist.

use std::fs;
use std::path::PathBuf;

use super::page::root;

/// Folders to which the paths in ARCHITECTURE.md are relative.
const BASES: [&str; 3] = ["", "host/crates", "tests/tests"];

#[test]
fn architecture_names_existing_files_and_tests() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut files, mut tests, mut missing) = (0, 0, Vec::new());
    for (line, text) in text.lines().enumerate() {
        let mut source = None;
        for name in code_spans(text).filter(|name| !name.contains("NAME")) {
            let at = line + 1;
            if is_path(name) {
                files += 1;
                source = find(name).and_then(|path| fs::read_to_string(path).ok());
                if source.is_none() {
                    missing.push(format!("line {at}: there is no file {name}"));
                }
            } else if is_invariant(text)
                && let Some(source) = &source
            {
                tests += 1;
                if !source.contains(&format!("fn {name}(")) {
                    missing.push(format!("line {at}: the file has no test {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md:\n{}", missing.join("\n"));
    assert!(files > 60 && tests >= 20, "only {files} files and {tests} tests");
}

/// Returns the code spans of a line.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_path(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    name.contains('/') && !name.contains('*') && extension.is_some_and(|it| !it.contains('/'))
}

fn find(name: &str) -> Option<PathBuf> {
    BASES.iter().map(|base| root().join(base).join(name)).find(|path| path.is_file())
}

/// Returns whether a line is a row of the table of invariants, which begins with a number.
fn is_invariant(line: &str) -> bool {
    let number = line.strip_prefix("| ").and_then(|rest| rest.split(' ').next());
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}
