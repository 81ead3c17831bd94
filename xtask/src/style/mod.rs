//! Check of the project's style: plain technical English in comments, names and documents.
//!
//! A list of words applies to all texts. Four measures apply to the comments and test names
//! of Rust sources.

mod lexer;
mod list;
mod measure;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::command::{Result, say};
use measure::{Measure, Totals};
use words::Search;

/// Extensions of the files that the word list applies to.
const EXTENSIONS: &[&str] = &["rs", "md", "wit", "html", "js", "mjs", "toml", "py"];

/// Folders with generated files. Their sources are checked instead.
const GENERATED: &[&str] = &["docs/reference/"];

/// Number of listed words, and of files, that an error names.
const MAX_NAMED: usize = 20;

/// Result of the check over all files.
#[derive(Default)]
struct Report {
    totals: Totals,
    /// Findings of each measured file.
    measured: BTreeMap<String, Vec<measure::Finding>>,
    /// Listed words of each file.
    words: BTreeMap<String, Vec<words::Hit>>,
    /// Unused entries of the allow list.
    unused: Vec<String>,
}

/// Checks the style of the tree, and prints its figures. With `--list` it prints each
/// finding to standard output instead; further arguments limit the list to those paths.
pub fn check(root: &Path, arguments: &[String]) -> Result {
    let report = Report::new(&files(root)?);
    match arguments.split_first() {
        None => {
            say(&report.figures());
            let failures = report.failures();
            if failures.is_empty() {
                return Ok(());
            }
            Err(format!(
                "the style differs from plain technical English \
                 (`cargo xtask style --list [PATH...]` prints each place):\n{failures}"
            ))
        }
        Some((option, paths)) if option == "--list" => {
            let list = report.list(paths);
            std::io::stdout().write_all(list.as_bytes()).map_err(|error| error.to_string())
        }
        Some((other, _)) => Err(format!("unknown argument {other}; usage: --list [PATH...]")),
    }
}

/// Reads all checked files; the names are relative to the root.
fn files(root: &Path) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    collect(root, "", &[".git".to_owned()], &mut files)
        .map_err(|error| format!("cannot read {}: {error}", root.display()))?;
    files.sort();
    Ok(files)
}

/// Adds the files of a folder that no `.gitignore` names. A walk, unlike a list from git,
/// includes new files and works in an unpacked archive.
fn collect(
    folder: &Path,
    prefix: &str,
    ignored: &[String],
    files: &mut Vec<(String, String)>,
) -> std::io::Result<()> {
    let own = fs::read_to_string(folder.join(".gitignore")).unwrap_or_default();
    let own = own.lines().map(|line| line.trim_matches('/').to_owned());
    let ignored: Vec<String> = ignored.iter().cloned().chain(own).collect();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if ignored.contains(&name) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let prefix = format!("{path}/");
            if !GENERATED.contains(&prefix.as_str()) {
                collect(&entry.path(), &prefix, &ignored, files)?;
            }
        } else if kind.is_file() && EXTENSIONS.iter().any(|it| name.ends_with(&format!(".{it}"))) {
            let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
            files.push((path, text));
        }
    }
    Ok(())
}

impl Report {
    fn new(files: &[(String, String)]) -> Self {
        let mut report = Self::default();
        let mut search = Search::new();
        for (path, text) in files {
            report.words.insert(path.clone(), search.file(path, text));
            if path.ends_with(".rs") {
                let (totals, findings) = measure::measure(text);
                report.totals.add(&totals);
                report.measured.insert(path.clone(), findings);
            }
        }
        report.unused = search.unused();
        report
    }

    fn count(&self, measure: Measure) -> usize {
        self.measured.values().flatten().filter(|finding| finding.measure == measure).count()
    }

    fn exceeds(&self, measure: Measure) -> bool {
        self.count(measure) * measure.scale() > self.totals.of(measure) * measure.limit()
    }

    /// Describes the four figures and the number of listed words, one line each.
    fn figures(&self) -> String {
        let mut text = String::new();
        for measure in Measure::ALL {
            let (count, total) = (self.count(measure), self.totals.of(measure));
            // Rounded up, so that a figure above its limit does not look equal to it.
            let tenths = (count * measure.scale() * 10).div_ceil(total.max(1));
            let _ = writeln!(
                text,
                "{:>5}.{} {} ({count} of {total}), limit {}",
                tenths / 10,
                tenths % 10,
                measure.title(),
                measure.limit()
            );
        }
        let hits = self.words.values().map(Vec::len).sum::<usize>();
        let _ = write!(text, "{hits:>5}   listed words in {} files, limit 0", self.words.len());
        text
    }

    /// Describes exceeded limits, listed words and unused entries of the allow list.
    fn failures(&self) -> String {
        let mut text = String::new();
        for measure in Measure::ALL.into_iter().filter(|measure| self.exceeds(*measure)) {
            let _ = writeln!(text, "more than {} {}:", measure.limit(), measure.title());
            text += &self.worst_files(measure);
        }
        let hits: Vec<(&String, &words::Hit)> = self
            .words
            .iter()
            .flat_map(|(path, hits)| hits.iter().map(move |it| (path, it)))
            .collect();
        for (path, hit) in hits.iter().take(MAX_NAMED) {
            let _ = writeln!(text, "  {path}:{}: {}", hit.line, describe(hit));
        }
        if hits.len() > MAX_NAMED {
            let _ = writeln!(text, "  and {} more listed words", hits.len() - MAX_NAMED);
        }
        for entry in &self.unused {
            let _ = writeln!(text, "  {entry}");
        }
        text
    }

    /// Describes the files with the most findings of a measure, with the lines.
    fn worst_files(&self, measure: Measure) -> String {
        let lines = |findings: &[measure::Finding]| {
            let lines = findings.iter().filter(|finding| finding.measure == measure);
            lines.map(|finding| finding.line).collect::<Vec<_>>()
        };
        let mut files: Vec<_> =
            self.measured.iter().map(|(path, findings)| (path, lines(findings))).collect();
        files.retain(|(_, lines)| !lines.is_empty());
        files.sort_by_key(|(_, lines)| std::cmp::Reverse(lines.len()));
        let mut text = String::new();
        for (path, mut lines) in files.into_iter().take(MAX_NAMED) {
            let count = lines.len();
            lines.dedup();
            let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
            let _ = writeln!(text, "  {path}: {count} (lines {})", lines.join(", "));
        }
        text
    }

    /// Lists every finding by file, of all files or of those under the given paths.
    fn list(&self, paths: &[String]) -> String {
        let is_selected = |path: &str| {
            let under =
                |folder: &String| Path::new(path).starts_with(folder.trim_start_matches("./"));
            paths.is_empty() || paths.iter().any(under)
        };
        let mut text = String::new();
        for (path, hits) in self.words.iter().filter(|(path, _)| is_selected(path)) {
            let measured = self.measured.get(path).into_iter().flatten();
            let mut lines: Vec<(usize, String)> = measured
                .map(|it| (it.line, format!("{}: {}", it.measure.label(), it.text)))
                .chain(hits.iter().map(|hit| (hit.line, format!("word: {}", describe(hit)))))
                .collect();
            lines.sort();
            lines.dedup();
            for (line, finding) in &lines {
                let _ = writeln!(text, "{path}:{line}: {finding}");
            }
            if !lines.is_empty() {
                text.push('\n');
            }
        }
        text
    }
}

fn describe(hit: &words::Hit) -> String {
    format!("\"{}\"; instead: {}", hit.word, hit.alternative)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(files: &[(&str, &str)]) -> Report {
        let files: Vec<_> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Report::new(&files)
    }

    /// A comment of ten words, without a finding.
    const PLAIN: &str = "/// Returns the number of bytes that the request body has.\n\n";

    #[test]
    fn figures_fail_only_above_their_limit() {
        let at_limit = PLAIN.repeat(97) + &"/// For requests of many bytes.\n\n".repeat(3);
        let below = report(&[("a.rs", &at_limit), ("b.md", "What it is.")]);
        assert!(below.figures().contains("  3.0 % of comments that begin"), "{}", below.figures());
        assert!(!below.exceeds(Measure::Opening) && !below.exceeds(Measure::Pronoun));
        let above = report(&[("a.rs", &(at_limit + "/// How requests of one byte end.\n"))]);
        assert!(above.figures().contains("  4.0 % of comments that begin"), "{}", above.figures());
        assert!(above.failures().contains("  a.rs: 4 (lines 195, 197, 199, 201)"));
    }

    #[test]
    fn no_sources_have_figures_of_zero() {
        let report = report(&[]);
        assert!(report.figures().starts_with("    0.0 who"), "{}", report.figures());
        assert!(Measure::ALL.into_iter().all(|measure| !report.exceeds(measure)));
    }

    #[test]
    fn failures_and_list_name_file_line_and_alternative() {
        let (word, alternative) = list::WORDS[0];
        let report = report(&[
            ("a/b.md", &format!("one\n{word}\n")),
            ("a/c.rs", "#[test]\nfn finds_nothing() {}\n"),
        ]);
        let expected = format!("a/b.md:2: \"{word}\"; instead: {alternative}\n");
        assert!(report.failures().contains(&expected), "{}", report.failures());
        let listed = report.list(&[]);
        assert!(listed.contains("a/c.rs:2: test name: finds_nothing\n"), "{listed}");
        assert!(listed.contains(&format!("a/b.md:2: word: \"{word}\"; instead")), "{listed}");
        assert!(report.list(&["a/b".to_owned()]).is_empty());
        assert!(!report.list(&["./a/".to_owned()]).is_empty());
    }

    #[test]
    fn walk_leaves_out_ignored_and_generated_files() {
        let names: Vec<_> =
            files(&crate::root()).unwrap().into_iter().map(|(path, _)| path).collect();
        for expected in ["README.md", "xtask/src/main.rs", "wit/types.wit"] {
            assert!(names.iter().any(|name| name == expected), "{expected}");
        }
        let left_out =
            ["target/", ".git/", "docs/reference/", "plugins/javascript-skills/node_modules/"];
        let mut names = names.iter();
        assert!(!names.any(|name| left_out.iter().any(|folder| name.starts_with(folder))));
    }
}
