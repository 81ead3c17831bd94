//! What the test of the page needs: Chromium from the system's packages, and playwright-core
//! from npm, which drives it.

use crate::command::{self, Result};
use crate::tools::{node_packages, skipping};
use crate::{build, root};

/// Installs both where that can be; where not, the test is skipped, but not in continuous
/// integration.
pub fn prepare() -> Result {
    skipping("the page in a browser", install()).map(|_| ())
}

fn install() -> Result {
    command::find_or_install("chromium", "the browser")?;
    node_packages("page-tools", &root().join("tests/page"), &build::browser_folder())
}
