//! Commands of the documents, page by page. Each page runs beside its own server, in a
//! folder like the repository's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tests::{PluginFolder, ServerBuilder, program, skip_or_fail_in_ci};

use super::page::{Block, Page, pages, root};
use crate::authoring::isolate_build;

/// Page for authors: it runs without the repository, with cargo and an empty plugin folder.
const AUTHOR_PAGE: &str = "first-plugin.md";

#[test]
fn documented_commands_work() {
    let required = "command -v curl && command -v openssl";
    let found = Command::new("bash").args(["-c", required]).output();
    if !found.is_ok_and(|found| found.status.success()) {
        skip_or_fail_in_ci("bash, curl and openssl are needed to run the documents' commands");
        return;
    }
    let pages: Vec<Page> = pages()
        .into_iter()
        .filter(|page| page.blocks().iter().any(|block| block.language == "sh"))
        .collect();
    assert!(pages.len() > 4, "only {} pages have commands", pages.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            pages.iter().map(|page| (page, scope.spawn(|| run_page(page)))).collect();
        for (page, thread) in threads {
            thread.join().unwrap_or_else(|_| panic!("{} failed", page.name));
        }
    });
}

/// Runs the commands of a page, and compares their output with the documented answers.
fn run_page(page: &Page) {
    let work_folder = TempDir::new().unwrap();
    let is_author_page = page.name.ends_with(AUTHOR_PAGE);
    let folder = if is_author_page { PluginFolder::new() } else { sample_folder() };
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // Cargo writes to the same disk at the same time, so an fsync may be slow.
        .env("PLUGBOARD_JOURNAL_SYNC", "normal")
        .env("PLUGBOARD_BLACKBOX_HEADERS", "X-API-Key: first-secret")
        .env("PLUGBOARD_BLACKBOX_SIGNING_SECRETS", "second-secret")
        .start();
    if is_author_page {
        symlink(folder.path(), work_folder.path().join("plugins")).unwrap();
    }
    create_repository_layout(work_folder.path(), folder.path());

    let blocks = page.blocks();
    // An HTTP error fails the test, because of `--fail`.
    let mut script = String::from(
        "set -euo pipefail\nout=$PWD/.out\ncurl() { command curl --fail --no-progress-meter \"$@\"; }\n",
    );
    for (nth, block) in blocks.iter().enumerate().filter(|(_, block)| block.language == "sh") {
        let text = block
            .text
            .replace("127.0.0.1:9000", server.webhook_address())
            .replace("127.0.0.1:9901", server.admin_address());
        script += &format!("{{\n{text}}} > $out/{nth} 2> $out/{nth}.err\n");
    }
    // The simulator's defaults are the usual port and a short time limit.
    let simulate = format!("plugboard simulate {} --timeout 60s", server.events_url());
    let script = script.replace("plugboard simulate", &simulate);
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(work_folder.path()).stdin(Stdio::null());
    let mut path = program().parent().unwrap().as_os_str().to_owned();
    if is_author_page {
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        isolate_build(&mut shell);
    } else {
        path.push(":/usr/bin:/bin");
        shell.env_clear();
    }
    let shell = shell.env("PATH", path).status().unwrap();

    let output = |nth: usize, extension: &str| {
        fs::read_to_string(work_folder.path().join(format!(".out/{nth}{extension}")))
            .unwrap_or_default()
    };
    let mut last_command = None;
    for (nth, block) in blocks.iter().enumerate() {
        let at = format!("{}:{}", page.name, block.line);
        match (block.language.as_str(), last_command) {
            ("sh", _) => last_command = Some(nth),
            ("json" | "text", Some(command)) if block.before.contains("answers") => {
                let actual = output(command, "");
                assert!(
                    matches_answer(block, &actual),
                    "{at}: the output differs:\n{actual}{}",
                    output(command, ".err")
                );
            }
            _ => {}
        }
    }
    let last_started = || {
        (0..blocks.len()).rev().find(|nth| work_folder.path().join(format!(".out/{nth}")).exists())
    };
    if !shell.success() {
        let nth = last_started().unwrap();
        let (stdout, stderr) = (output(nth, ""), output(nth, ".err"));
        let (line, log) = (blocks[nth].line, server.log_text());
        panic!("{}:{line}: {shell}\n{}\n{stdout}{stderr}\n{log}", page.name, blocks[nth].text);
    }
}

/// Creates links to the files that exist in the repository after `cargo xtask run`.
fn create_repository_layout(folder: &Path, plugins: &Path) {
    fs::create_dir_all(folder.join("target/release")).unwrap();
    fs::create_dir(folder.join(".out")).unwrap();
    symlink(root().join("tests"), folder.join("tests")).unwrap();
    symlink(plugins, folder.join("target/plugins")).unwrap();
    symlink(program(), folder.join("target/release/plugboard")).unwrap();
}

/// Returns a plugin folder with the built sample plugins and their settings.
fn sample_folder() -> PluginFolder {
    let folder = PluginFolder::new();
    let built = program().parent().unwrap().parent().unwrap().join("plugins");
    for entry in fs::read_dir(built).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|it| it == "wasm" || it == "toml") {
            fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Returns whether output matches the documented answer. In the answer, `…` matches any
/// text, and a digit matches any digit.
fn matches_answer(block: &Block, output: &str) -> bool {
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
