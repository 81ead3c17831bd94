//! The commands, page by page, as somebody would type them who has the repository and
//! a server that runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tests::{PluginFolder, ServerBuilder, program, skip_or_fail_in_ci};

use super::page::{Block, Page, pages, root};
use crate::authoring::set_apart;

/// The page of somebody who has no repository, an empty plugin folder, and cargo.
const AUTHORS: &str = "first-plugin.md";

#[test]
fn what_the_documents_say_to_type_works() {
    let needed = "command -v curl && command -v openssl";
    let found = Command::new("bash").args(["-c", needed]).output();
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
        let running: Vec<_> = pages.iter().map(|page| (page, scope.spawn(|| run(page)))).collect();
        for (page, run) in running {
            run.join().unwrap_or_else(|_| panic!("{} does not work", page.name));
        }
    });
}

/// Runs the commands of a page, and compares what they answer.
fn run(page: &Page) {
    let place = TempDir::new().unwrap();
    let of_author = page.name.ends_with(AUTHORS);
    let folder = if of_author { PluginFolder::new() } else { samples() };
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        // Cargo writes much to the same disk meanwhile.
        .env("PLUGBOARD_JOURNAL_SYNC", "normal")
        .env("PLUGBOARD_BLACKBOX_HEADERS", "X-API-Key: first-secret")
        .env("PLUGBOARD_BLACKBOX_SIGNING_SECRETS", "second-secret")
        .start();
    if of_author {
        symlink(folder.path(), place.path().join("plugins")).unwrap();
    }
    lay_out(place.path(), folder.path());

    let blocks = page.blocks();
    // An answer that is an error is one for the test, too.
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
    // The simulator's own default is the usual port, and a usual machine.
    let simulate = format!("plugboard simulate {} --timeout 60s", server.events_url());
    let script = script.replace("plugboard simulate", &simulate);
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).current_dir(place.path()).stdin(Stdio::null());
    let mut path = program().parent().unwrap().as_os_str().to_owned();
    if of_author {
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        set_apart(&mut shell);
    } else {
        path.push(":/usr/bin:/bin");
        shell.env_clear();
    }
    let shell = shell.env("PATH", path).status().unwrap();

    let out = |nth: usize, ending: &str| {
        fs::read_to_string(place.path().join(format!(".out/{nth}{ending}"))).unwrap_or_default()
    };
    let mut last = None;
    for (nth, block) in blocks.iter().enumerate() {
        let at = format!("{}:{}", page.name, block.line);
        match (block.language.as_str(), last) {
            ("sh", _) => last = Some(nth),
            ("json" | "text", Some(asked)) if block.before.contains("answers") => {
                let said = out(asked, "");
                assert!(
                    fits(block, &said),
                    "{at}: this is said instead:\n{said}{}",
                    out(asked, ".err")
                );
            }
            _ => {}
        }
    }
    let begun =
        || (0..blocks.len()).rev().find(|nth| place.path().join(format!(".out/{nth}")).exists());
    if !shell.success() {
        let nth = begun().unwrap();
        let (said, err) = (out(nth, ""), out(nth, ".err"));
        let (line, log) = (blocks[nth].line, server.log_text());
        panic!("{}:{line}: {shell}\n{}\n{said}{err}\n{log}", page.name, blocks[nth].text);
    }
}

/// What the place looks like after `cargo xtask run`.
fn lay_out(place: &Path, plugins: &Path) {
    fs::create_dir_all(place.join("target/release")).unwrap();
    fs::create_dir(place.join(".out")).unwrap();
    symlink(root().join("tests"), place.join("tests")).unwrap();
    symlink(plugins, place.join("target/plugins")).unwrap();
    symlink(program(), place.join("target/release/plugboard")).unwrap();
}

/// The sample plugins with their settings, as they are built.
fn samples() -> PluginFolder {
    let folder = PluginFolder::new();
    let built = program().parent().unwrap().parent().unwrap().join("plugins");
    for entry in fs::read_dir(built).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|ending| ending == "wasm" || ending == "toml") {
            fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// Whether an answer is the one that is written down: `…` stands for anything, digits
/// for digits.
fn fits(block: &Block, said: &str) -> bool {
    let mask = |text: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let digit = |c: char| if c.is_ascii_digit() { '0' } else { c };
        lines.map(|line| line.chars().map(digit).collect()).collect()
    };
    let (written, said) = (mask(&block.text), mask(said));
    written.len() == said.len()
        && written.iter().zip(&said).all(|(pattern, line)| is_like(pattern, line))
}

/// Whether a line has the parts between the `…`, in their order.
fn is_like(pattern: &str, line: &str) -> bool {
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
fn an_answer_is_compared_but_for_what_changes() {
    for (pattern, line, expected) in [
        (r#"{"a":"00"}"#, r#"{"a":"00"}"#, true),
        (r#"{"a":"00"}"#, r#"{"b":"00"}"#, false),
        ("a…c", "a b c", true),
        ("a…c…", "a b c d", true),
        ("a…c", "a b d", false),
        ("a…x…c", "a b c", false),
        ("a", "a b", false),
    ] {
        assert_eq!(is_like(pattern, line), expected, "{pattern} {line}");
    }
}
