//! Finds the commit that the program is built from, for `plugboard --version`.
//!
//! Sets two variables for `src/build_info.rs`: the commit, and the time whose date is shown. Both
//! are empty without git, and outside the repository, as in a source package.
//!
//! The time is that of the commit and not that of the build, so that a build can be reproduced.
//! `SOURCE_DATE_EPOCH` overrides it, and `PLUGBOARD_COMMIT` the commit. Uncommitted changes are not marked, because the script would
//! have to run after each of them.

use std::path::Path;
use std::process::{Command, Stdio};

/// Digits of the commit's hash. The length that git selects differs between clones.
const COMMIT_DIGITS: usize = 7;

/// Variable with the commit, for builds without the repository's `.git` (deploy/Containerfile).
const COMMIT_VARIABLE: &str = "PLUGBOARD_COMMIT";

/// Variable with a time in seconds since 1970 (<https://reproducible-builds.org/>).
const TIME_VARIABLE: &str = "SOURCE_DATE_EPOCH";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={TIME_VARIABLE}");
    println!("cargo::rerun-if-env-changed={COMMIT_VARIABLE}");
    let (found_commit, commit_time) = find_commit().unwrap_or_default();
    let commit = match std::env::var(COMMIT_VARIABLE) {
        Ok(text) if !text.is_empty() => abbreviate(&text)
            .ok_or_else(|| format!("{COMMIT_VARIABLE}={text}: expected the hash of a commit"))?,
        _ => found_commit,
    };
    let time = match std::env::var(TIME_VARIABLE) {
        Ok(text) if text.parse::<u64>().is_ok() => text,
        Ok(text) if !text.is_empty() => {
            return Err(format!("{TIME_VARIABLE}={text}: expected seconds since 1970"));
        }
        _ => commit_time,
    };
    println!("cargo::rustc-env=PLUGBOARD_COMMIT={commit}");
    println!("cargo::rustc-env=PLUGBOARD_BUILD_TIME={time}");
    Ok(())
}

/// Returns the abbreviated form of a commit's hash.
fn abbreviate(hash: &str) -> Option<String> {
    let is_hash = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    hash.get(..COMMIT_DIGITS).filter(|_| is_hash).map(str::to_owned)
}

/// Returns the abbreviated hash of the commit, and its time in seconds since 1970.
fn find_commit() -> Option<(String, String)> {
    // The folder of a source package may be in the repository of another project.
    if git(&["rev-parse", "--show-prefix"])? != "host/" {
        return None;
    }
    watch_head();
    let output = git(&["rev-list", "--max-count=1", "--format=%ct", "HEAD"])?;
    let (commit, time) = output.strip_prefix("commit ")?.split_once('\n')?;
    Some((abbreviate(commit)?, time.to_owned()))
}

/// Makes cargo run the script again after a commit or a checkout.
fn watch_head() {
    // In a worktree, HEAD and the branches are in different folders.
    let watch = |name: &str| {
        let path = git(&["rev-parse", "--git-path", name])?;
        // Cargo would run the script in every build if it watched a missing file.
        Path::new(&path).exists().then(|| println!("cargo::rerun-if-changed={path}"))
    };
    watch("HEAD");
    // The whole state of a repository with the format `reftable`.
    watch("reftable/tables.list");
    // There is no branch when a commit itself is checked out.
    if let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"])
        && watch(&branch).is_none()
    {
        // The branch is in packed-refs, until the next commit creates its file.
        watch("packed-refs");
        watch("refs/heads");
    }
}

/// Runs git, and returns its output without the last line break.
fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // A hook of git sets these; the repository is that of the working directory.
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim_end().to_owned())
}
