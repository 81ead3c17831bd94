//! Check: the packages of the SDK and the contract are complete.
//!
//! In both crates `wit` is a symbolic link. Cargo replaces links by files only if the folder of
//! the crate has them, so a checkout without symbolic links makes packages without the contract.

use crate::command::{self, Result, cargo, output};
use crate::root;
use crate::tools::files;

/// Crates that plugin authors get from a registry.
const PACKAGES: [&str; 2] = ["plugboard-sdk", "plugboard-wit"];

/// Files of each package beside the sources and the contract.
const FILES: [&str; 5] = ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"];

/// Packages both crates into `target/package/`, and checks their files. A test builds a plugin
/// with the packaged SDK.
///
/// # Errors
///
/// Names the files that are missing.
pub fn check() -> Result {
    let packages = PACKAGES.map(|package| ["--package", package]).concat();
    // Uncommitted changes are packaged as well. A test builds the package.
    let mut package = cargo(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    package.args(&packages);
    command::run(package)?;
    let contract = contract()?;
    let mut missing = String::new();
    for package in PACKAGES {
        let list = output(cargo(["package", "--list", "--allow-dirty", "--package", package]))?;
        let expected = FILES.into_iter().chain(contract.iter().map(String::as_str));
        for file in expected.filter(|file| !list.lines().any(|line| line == *file)) {
            missing.push_str(&format!("\n  {package}: {file}"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("packages without files that they need:{missing}"))
}

/// Returns the paths of the contract's files in a package.
fn contract() -> Result<Vec<String>> {
    let files = files(&root().join("wit"))?;
    let names = files.iter().filter_map(|file| file.file_name()?.to_str());
    Ok(names.map(|name| format!("wit/{name}")).collect())
}
