//! Check: the files that GitHub, Docker Compose and Kubernetes read match their schemas.
//!
//! The tools come from PyPI and contain the schemas, so a check needs the network only once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::target;
use crate::command::{self, Result, program};
use crate::root;
use crate::tools::{python_packages, skipping};

/// Schema of check-jsonschema, folder, and test of the names of its files.
type Schema = (&'static str, &'static str, fn(&str) -> bool);

/// Schemas, and the files that each applies to.
const SCHEMAS: [Schema; 6] = [
    ("vendor.github-workflows", ".github/workflows", is_yaml),
    ("custom.github-workflows-require-timeout", ".github/workflows", is_yaml),
    ("vendor.dependabot", ".github", |name| name == "dependabot.yml"),
    ("vendor.github-issue-config", ".github/ISSUE_TEMPLATE", is_issue_config),
    ("vendor.github-issue-forms", ".github/ISSUE_TEMPLATE", |name| {
        is_yaml(name) && !is_issue_config(name)
    }),
    ("vendor.compose-spec", "deploy", |name| name.starts_with("compose") && is_yaml(name)),
];

/// Folder of the Kubernetes manifests.
const MANIFESTS: &str = "deploy/kubernetes";

/// Checks all files. Without Python the check is skipped, except in continuous integration.
///
/// # Errors
///
/// If a file does not match its schema, or a schema applies to no file.
pub fn check() -> Result {
    let Some(environment) = skipping("workflows, compose and manifests", install())? else {
        return Ok(());
    };
    for (schema, folder, applies) in SCHEMAS {
        let mut check = program(environment.join("bin/check-jsonschema"));
        check.args(["--quiet", "--builtin-schema", schema]);
        check.args(matching(&root().join(folder), applies)?);
        command::run(check)?;
    }
    let mut validate = program(environment.join("bin/kubernetes-validate"));
    validate.args(["--strict", "--quiet"]);
    validate.args(matching(&root().join(MANIFESTS), is_yaml)?);
    command::run(validate)
}

/// Installs the tools into a virtual environment, and returns its folder.
fn install() -> Result<PathBuf> {
    let environment = target().join("schemas");
    let requirements = root().join("xtask/requirements.txt");
    python_packages("schema-tools", &requirements, &environment, "for the schemas")?;
    Ok(environment)
}

/// Returns the files of a folder whose names pass a test, sorted.
///
/// # Errors
///
/// If no name passes the test.
fn matching(folder: &Path, applies: fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.filter(|name| name.to_str().is_some_and(applies));
    let mut files: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("{} has no file to check: see xtask/src/schemas.rs", folder.display()));
    }
    Ok(files)
}

fn is_yaml(name: &str) -> bool {
    [".yaml", ".yml"].iter().any(|extension| name.ends_with(extension))
}

fn is_issue_config(name: &str) -> bool {
    name == "config.yml"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_applies_to_a_file() {
        for (schema, folder, applies) in SCHEMAS {
            assert!(matching(&root().join(folder), applies).is_ok(), "{schema}");
        }
        assert!(matching(&root().join(MANIFESTS), is_yaml).is_ok());
    }

    #[test]
    fn folder_without_files_is_error() {
        let error = matching(&root().join("wit"), is_yaml).unwrap_err();
        assert!(error.contains("wit has no file to check"), "{error}");
        assert!(matching(&root().join("missing"), is_yaml).is_err());
    }
}
