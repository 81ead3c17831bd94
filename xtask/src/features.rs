//! Check: all builds of this repository use third-party crates with the same features.
//!
//! Cargo unifies the features of a dependency over all packages that one command
//! selects. When another command enables another feature of, say, `libc`, cargo builds
//! `libc` and every crate above it again, wasmtime included.

use std::collections::{BTreeMap, BTreeSet};

use crate::build;
use crate::command::{Result, cargo, output};

/// Third-party packages ("name version"), each with the feature lists by which cargo
/// builds it. A package has several when it is built for build scripts as well.
type Resolution = BTreeMap<String, BTreeSet<String>>;

/// Packages that one command builds.
#[derive(Clone)]
struct Selection {
    /// Arguments of cargo that select the packages.
    arguments: String,
    /// Flag for tests, which add the `dev-dependencies`.
    has_tests: bool,
}

impl Selection {
    fn new(arguments: impl Into<String>, has_tests: bool) -> Self {
        Self { arguments: arguments.into(), has_tests }
    }

    /// Returns the third-party packages that cargo builds for the target, or with those
    /// for build scripts and macros.
    fn resolve(&self, is_target_only: bool) -> Result<Resolution> {
        let edges = match (is_target_only, self.has_tests) {
            (true, true) => "normal,dev,no-proc-macro",
            (true, false) => "normal,no-proc-macro",
            (false, true) => "normal,build,dev",
            (false, false) => "normal,build",
        };
        let mut tree = cargo(["tree", "--quiet", "--prefix", "none", "--format", "{p}\t{f}"]);
        tree.args(["--edges", edges]).args(self.arguments.split_whitespace());
        Ok(parse(&output(tree)?))
    }
}

/// Returns pairs of commands that must not build a crate twice.
fn pairs() -> Vec<(Selection, Selection)> {
    let test = Selection::new("--workspace", true);
    vec![
        // The server and the other programs.
        (Selection::new("--workspace", false), test.clone()),
        // Clippy, and the documentation, which excludes tests.
        (Selection::new("--workspace --all-features", true), test),
        // Plugins and fixture guests for WebAssembly.
        (
            Selection::new(build::guest_selection(), false),
            Selection::new(build::plugin_selection(), false),
        ),
    ]
}

/// Compares the features of every third-party crate between commands.
///
/// # Errors
///
/// Names the crates and the features that differ.
pub fn check() -> Result {
    let mut problems = BTreeSet::new();
    for (one, other) in pairs() {
        // The target alone as well: a crate that is also built for build scripts would
        // hide a difference.
        for is_target_only in [true, false] {
            let (of_one, of_other) = (one.resolve(is_target_only)?, other.resolve(is_target_only)?);
            for difference in differences(&of_one, &of_other) {
                let (one, other) = (&one.arguments, &other.arguments);
                problems.insert(format!("  {difference} (`{one}` against `{other}`)\n"));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let problems: String = problems.into_iter().collect();
    Err(format!(
        "third-party crates would be built twice, because their features differ:\n{problems}Enable \
         the features for all in [workspace.dependencies]; `cargo tree --workspace --edges \
         features --invert CRATE` shows which member enables which."
    ))
}

/// Parses lines of "name version (notes)", a tab, and features.
fn parse(tree: &str) -> Resolution {
    let mut resolution = Resolution::new();
    for line in tree.lines() {
        let Some((package, features)) = line.split_once('\t') else { continue };
        // A note with a path: a member of the workspace.
        if package.contains("(/") {
            continue;
        }
        let name: Vec<&str> = package.split_whitespace().take(2).collect();
        // Cargo marks repeated packages.
        let features = features.trim_end_matches("(*)").trim().to_owned();
        resolution.entry(name.join(" ")).or_default().insert(features);
    }
    resolution
}

/// Describes every package that is in both resolutions, and has a feature list in the
/// first that it does not have in the second.
fn differences(one: &Resolution, other: &Resolution) -> Vec<String> {
    let mut differences = Vec::new();
    for (package, lists) in one {
        let Some(others) = other.get(package) else { continue };
        for list in lists.difference(others) {
            // Compares with the list that is most alike.
            let Some(nearest) = others.iter().min_by_key(|other| distance(list, other)) else {
                continue;
            };
            let (has, lacks) = (only("has", list, nearest), only("lacks", nearest, list));
            differences.push(format!("{package}{has}{lacks}"));
        }
    }
    differences
}

fn split(list: &str) -> BTreeSet<&str> {
    list.split(',').filter(|feature| !feature.is_empty()).collect()
}

fn distance(one: &str, other: &str) -> usize {
    split(one).symmetric_difference(&split(other)).count()
}

/// Describes the features that are in the first list alone.
fn only(verb: &str, list: &str, other: &str) -> String {
    let (list, other) = (split(list), split(other));
    let only: Vec<&str> = list.difference(&other).copied().collect();
    if only.is_empty() { String::new() } else { format!(" {verb} {}", only.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "plugboard v0.1.0 (/w/host)\tdefault\n\
        libc v0.2.1\tdefault,std\n\
        serde_derive v1.0.2 (proc-macro)\t\n\
        libc v0.2.1\tdefault,std (*)\n\
        \n\
        libc v0.2.1\textra_traits\n";

    #[test]
    fn tree_is_parsed_without_members_and_marks() {
        let resolution = parse(TREE);
        let packages: Vec<&str> = resolution.keys().map(String::as_str).collect();
        assert_eq!(packages, ["libc v0.2.1", "serde_derive v1.0.2"]);
        assert_eq!(
            resolution["libc v0.2.1"],
            ["default,std", "extra_traits"].map(String::from).into()
        );
        assert_eq!(resolution["serde_derive v1.0.2"], [String::new()].into());
    }

    #[test]
    fn differences_name_package_and_features() {
        let other = parse("libc v0.2.1\tdefault,std\nlibc v0.2.1\tstd\nurl v2.0.0\tserde\n");
        assert!(differences(&parse("libc v0.2.1\tstd\nhex v0.4.0\t\n"), &other).is_empty());
        let one = parse("libc v0.2.1\talign,default\nurl v2.0.0\t\n");
        assert_eq!(
            differences(&one, &other),
            ["libc v0.2.1 has align lacks std", "url v2.0.0 lacks serde"]
        );
    }
}
