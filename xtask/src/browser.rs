//! Tools of the page's tests: Chromium from the system's packages, and its driver
//! playwright-core from npm.

use crate::command::{self, Result};
use crate::tools::{node_packages, skipping};
use crate::{build, root};

/// Installs both. On failure the tests are skipped, except in continuous integration.
pub fn prepare() -> Result {
    skipping("the page in a browser", install()).map(|_| ())
}

fn install() -> Result {
    command::find_or_install("chromium", "the browser")?;
    node_packages("page-tools", &root().join("tests/page"), &build::browser_folder())
}
