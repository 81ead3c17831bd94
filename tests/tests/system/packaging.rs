//! Parts of the program that packages need: version, completions, man pages.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::{PluginFolder, ServerBuilder, report_skipped, run_plugboard};

/// Version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the program successfully, and returns its output.
fn run(arguments: &[&str]) -> String {
    let output = run_plugboard(Path::new("/"), arguments, "");
    assert_eq!((output.status, output.stderr.as_str()), (0, ""), "{arguments:?}");
    output.stdout
}

/// Returns the text after the version, such as `3155428 2026-11-30`. Empty: no commit is known.
fn origin() -> String {
    let version = run(&["--version"]);
    let origin = version.trim_end().strip_prefix(&format!("plugboard {VERSION}")).unwrap();
    if origin.is_empty() {
        return String::new();
    }
    let origin = origin.strip_prefix(" (").and_then(|origin| origin.strip_suffix(')'));
    origin.unwrap_or_else(|| panic!("{version}")).to_owned()
}

/// Runs git in the folder of this crate.
fn git(arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("TZ", "UTC");
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
}

/// Returns the verbs that `--help` lists.
fn verbs() -> Vec<String> {
    let help = run(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let verbs: Vec<String> =
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(verbs.iter().any(|verb| verb == "serve"), "{verbs:?}");
    verbs.into_iter().filter(|verb| verb != "help").collect()
}

#[test]
fn version_names_commit_when_built_from_git() {
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("tests/") {
        report_skipped("the version's commit: the sources are in no git repository");
        return;
    }
    let origin = origin();
    let (commit, date) = origin.split_once(' ').unwrap_or_else(|| panic!("{origin:?}"));
    assert_eq!(commit.len(), 7, "{origin}");
    let show = ["show", "--no-patch", "--date=format-local:%Y-%m-%d", "--format=%cd", commit];
    let commit_date = git(&show).unwrap_or_else(|| panic!("{commit} is no commit"));
    if std::env::var_os("SOURCE_DATE_EPOCH").is_none() {
        assert_eq!(date, commit_date);
    }
}

#[tokio::test]
async fn metrics_name_version_and_commit() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let origin = origin();
    let commit = origin.split_once(' ').map_or("", |(commit, _)| commit);
    let labels = format!("version=\"{VERSION}\",commit=\"{commit}\"");
    assert_eq!(server.metric_value(&format!("plugboard_build_info{{{labels}}}")).await, Some(1));
}

#[test]
fn completions_cover_every_verb() {
    let verbs = verbs();
    // Text before and after a verb's name in each script.
    for (shell, before, after) in
        [("bash", "plugboard,", ")"), ("fish", "-a \"", "\""), ("zsh", "\n'", ":")]
    {
        let script = run(&["completions", shell]);
        for verb in &verbs {
            assert!(
                script.contains(&format!("{before}{verb}{after}")),
                "{shell}: {verb}\n{script}"
            );
        }
    }
}

#[test]
fn man_pages_cover_every_verb() {
    let place = TempDir::new().unwrap();
    let dir = place.path().join("share/man1");
    run(&["man", dir.to_str().unwrap()]);
    let pages = fs::read_dir(&dir).unwrap().map(|page| page.unwrap().file_name());
    let pages: BTreeSet<String> = pages.map(|name| name.into_string().unwrap()).collect();
    let verbs = verbs();
    let mut expected: BTreeSet<String> =
        verbs.iter().map(|verb| format!("plugboard-{verb}.1")).collect();
    expected.insert("plugboard.1".to_owned());
    assert_eq!(pages, expected);
    for verb in &verbs {
        let page = fs::read_to_string(dir.join(format!("plugboard-{verb}.1"))).unwrap();
        assert!(page.contains(&format!(".TH plugboard-{verb} 1 ")), "{page}");
        assert!(page.contains(&format!("\\fBplugboard {verb}\\fR")), "{page}");
    }
}
