//! What the test of the page needs: Chromium from the system's packages, and playwright-core
//! from npm, which drives it.

use std::fs;
use std::path::Path;

use crate::command::{self, Result, program, say};
use crate::{build, root};

/// What is said if there is no browser: the rest is tested all the same.
const SKIPPED: &str = "SKIPPED: the page in a browser";

/// What tells npm what to install.
const PACKAGE: [&str; 2] = ["package.json", "package-lock.json"];

/// Installs both where that can be; where not, says so, and the test says so again.
pub fn prepare() {
    if let Err(reason) = install() {
        say(&format!("{SKIPPED}: {reason}"));
    }
}

fn install() -> Result {
    for (name, what) in [("node", "JavaScript, 20 or later"), ("npm", "its packages")] {
        command::find(name).ok_or_else(|| format!("{name} ({what}) is not installed"))?;
    }
    command::find_or_install("chromium", "the browser")?;
    let (from, to) = (root().join("tests/page"), build::browser_folder());
    if is_installed(&from, &to) {
        return Ok(());
    }
    // Not into the source tree.
    fs::create_dir_all(&to).map_err(|error| format!("cannot make {}: {error}", to.display()))?;
    for file in PACKAGE {
        let copied = fs::copy(from.join(file), to.join(file));
        copied.map_err(|error| format!("cannot copy {file} to {}: {error}", to.display()))?;
    }
    let mut npm = program("npm");
    npm.current_dir(&to);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    command::run(npm)
}

/// Whether what is there is what is wanted: npm leaves its own list behind when it is done.
fn is_installed(from: &Path, to: &Path) -> bool {
    let same = |file| match (fs::read(from.join(file)), fs::read(to.join(file))) {
        (Ok(wanted), Ok(there)) => wanted == there,
        _ => false,
    };
    PACKAGE.into_iter().all(same) && to.join("node_modules/.package-lock.json").exists()
}
