//! Commands of `console` blocks that the documents' test does not run, with the reasons.

use std::fs;

use super::page::root;

/// Command that is not run as it is.
pub struct NotRun {
    /// Beginning of the command.
    pub prefix: &'static str,
    /// Why the test does not run it.
    pub reason: &'static str,
    /// Script that has the effect of the command on the files.
    pub instead: &'static str,
}

/// Commands that are not run. Each must occur in a document.
pub const NOT_RUN: [NotRun; 10] = [
    NotRun { prefix: "git clone ", reason: "needs the network", instead: "" },
    NotRun {
        prefix: "cargo xtask run",
        reason: "builds the program that the test uses; `sh` blocks have its server",
        instead: "",
    },
    NotRun { prefix: "cargo xtask test", reason: "runs this test", instead: "" },
    NotRun { prefix: "cargo xtask plugins", reason: "has built the samples before", instead: "" },
    NotRun { prefix: "cargo xtask bench ", reason: "takes many minutes", instead: "" },
    NotRun {
        prefix: "cargo build --profile dist",
        reason: "takes 20 minutes; the test uses the program of the profile `release`",
        instead: "",
    },
    NotRun {
        prefix: "PLUGBOARD_FUZZ_SECONDS=",
        reason: "runs for ten minutes, and `cargo xtask test` runs it for some seconds",
        instead: "",
    },
    NotRun {
        prefix: "npm ci",
        reason: "needs the network; the packages of the samples' build are linked",
        instead: "ln -s ~/plugboard/target/javascript/node_modules node_modules",
    },
    NotRun { prefix: "npx --yes @bytecodealliance/jco", reason: "needs the network", instead: "" },
    NotRun {
        prefix: "pip install -r requirements.txt",
        reason: "needs the network; the tool of the samples' build is linked",
        instead: "test -e requirements.txt
            ln -s ~/plugboard/target/python/bin/componentize-py .venv/bin/",
    },
];

/// Returns the entry of a command, or none if the command is run.
pub fn find(command: &str) -> Option<&'static NotRun> {
    NOT_RUN.iter().find(|entry| command.starts_with(entry.prefix))
}

/// Checks the names in a command that is not run.
///
/// # Errors
///
/// Names the task, profile, package, option or address that does not exist.
pub fn check(command: &str) -> Result<(), String> {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let words: Vec<&str> = command.split_whitespace().collect();
    let missing = |what: &str, name: &str| Err(format!("`{command}`: there is no {what} {name}"));
    for pair in words.windows(2) {
        match (pair[0], pair[1]) {
            ("xtask", task) if !read("xtask/src/main.rs").contains(&format!("\"{task}\" =>")) => {
                return missing("task", task);
            }
            ("--profile", profile)
                if !read("Cargo.toml").contains(&format!("[profile.{profile}]")) =>
            {
                return missing("profile", profile);
            }
            ("-p", package) if !read("Cargo.toml").contains(&format!("\n{package} = ")) => {
                return missing("package", package);
            }
            ("clone", url) if !read("Cargo.toml").contains(&format!("\"{url}\"")) => {
                return missing("repository", url);
            }
            ("bench", option)
                if !read("bench/src/main.rs").contains(option.trim_start_matches('-')) =>
            {
                return missing("option", option);
            }
            ("guest-types", folder)
                if !root().join("plugins/javascript-skills").join(folder).exists() =>
            {
                return missing("folder", folder);
            }
            ("--world-name", world) if !has_world(world) => return missing("world", world),
            _ => {}
        }
    }
    match words[0].split_once('=') {
        Some((variable, _))
            if !read("host/crates/platform/src/fuzz.rs").contains(&format!("\"{variable}\"")) =>
        {
            missing("variable", variable)
        }
        _ => Ok(()),
    }
}

/// Returns whether the contract has a world.
fn has_world(name: &str) -> bool {
    let files = fs::read_dir(root().join("wit")).unwrap();
    let mut texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    texts.any(|text| text.contains(&format!("world {name} {{")))
}

#[test]
fn names_in_commands_that_are_not_run_are_checked() {
    for good in ["cargo xtask run", "cargo build --profile dist", "npm ci"] {
        assert_eq!(check(good), Ok(()));
    }
    for bad in [
        "cargo xtask rum",
        "cargo build --profile dits",
        "PLUGBOARD_FUZZ_SECOND=6 cargo test -p plugboard-platform",
        "PLUGBOARD_FUZZ_SECONDS=6 cargo test -p plugboard-plattform",
        "git clone https://github.com/plugboard/plugbord",
        "cargo xtask bench --compere old",
        "npx --yes jco guest-types ../../wit --world-name ruter-plugin",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
