//! Check: the dependencies between crates follow the layers, and some libraries have only one
//! user. ARCHITECTURE.md explains the layers; this table enforces them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::command::{Result, cargo, output};
use crate::root;

/// The crates of the host from the lowest layer to the highest, each with the crates that
/// it may depend on. A crate may only name crates above its own row in this table, so the
/// graph has no cycle.
const LAYERS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("config", &["core"]),
    ("tls", &["config"]),
    ("platform", &["core", "config"]),
    ("store", &["core", "config"]),
    ("telemetry", &["core", "config", "tls"]),
    ("egress", &["core", "tls"]),
    ("runtime", &["core", "config", "tls", "store", "egress"]),
    ("registry", &["core", "config", "runtime"]),
    ("routing", &["core", "config", "platform", "runtime", "registry"]),
    ("events", &["core", "config", "store", "runtime", "registry"]),
    (
        "server",
        &[
            "core",
            "config",
            "tls",
            "platform",
            "store",
            "telemetry",
            "egress",
            "runtime",
            "registry",
            "routing",
            "events",
        ],
    ),
    ("simulate", &["core", "tls"]),
];

/// Libraries that only one crate may name, so that they can be replaced.
const OWNERS: &[(&str, &str)] =
    &[(ENGINE, ENGINE_OWNER), ("wasmtime-wasi", ENGINE_OWNER), ("rusqlite", "store")];

/// Library that crates below the runtime must not reach, even in their tests, because it
/// takes longest to build.
const ENGINE: &str = "wasmtime";

/// Crate that owns [`ENGINE`]. Crates that may depend on it may reach the library.
const ENGINE_OWNER: &str = "runtime";

/// Crates for plugins. They have no layer.
const GUEST_CRATES: &[&str] = &["plugboard-sdk", "plugboard-wit"];

/// The one crate with `unsafe` code.
const UNSAFE_ALLOWED: &str = "runtime";

/// Direct dependencies of each workspace member, by package name.
type Graph = BTreeMap<String, Vec<String>>;

/// Checks the dependencies of all crates of the host.
///
/// # Errors
///
/// Names the forbidden dependencies.
pub fn check() -> Result {
    let graph = parse(&tree(&["--workspace", "--depth", "1", "--prefix", "depth"])?);
    let mut violations = forbidden_dependencies(&graph);
    for (name, allowed) in LAYERS {
        if *name == ENGINE_OWNER || allowed.contains(&ENGINE_OWNER) {
            continue;
        }
        let package = package(name);
        let reached = tree(&["--package", &package, "--prefix", "none"])?;
        if reached.lines().any(|line| line.split(' ').next() == Some(ENGINE)) {
            let path = tree(&["--package", &package, "--invert", ENGINE])?;
            violations.push(format!("{package} must not reach {ENGINE}, but does:\n{path}"));
        }
    }
    violations.extend(unsafe_code(&root().join("host"))?);
    if violations.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the architecture is broken (layers: xtask/src/architecture.rs):\n  {}",
        violations.join("\n  ")
    ))
}

/// Runs `cargo tree` over every kind of dependency, on every platform.
fn tree(arguments: &[&str]) -> Result<String> {
    let mut command = cargo(["tree", "--quiet", "--edges", "normal,dev,build", "--target", "all"]);
    command.args(["--all-features", "--no-dedupe"]).args(arguments);
    output(command)
}

/// Returns the package name of a crate of the host.
fn package(name: &str) -> String {
    format!("plugboard-{name}")
}

/// Reads the output of `cargo tree --depth 1 --prefix depth`.
fn parse(tree: &str) -> Graph {
    let mut graph = Graph::new();
    let mut current: Option<&mut Vec<String>> = None;
    for line in tree.lines() {
        let name = line.get(1..).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        match line.as_bytes().first() {
            Some(b'0') => current = Some(graph.entry(name.to_owned()).or_default()),
            Some(b'1') => current.iter_mut().for_each(|names| names.push(name.to_owned())),
            _ => {}
        }
    }
    graph
}

/// Returns the dependencies that the tables above do not allow.
fn forbidden_dependencies(graph: &Graph) -> Vec<String> {
    let layer = |name: &str| {
        let name = name.strip_prefix("plugboard-")?;
        LAYERS.iter().find(|(known, _)| *known == name)
    };
    let mut violations = Vec::new();
    for (name, dependencies) in graph {
        let is_host_crate =
            name.starts_with("plugboard-") && !GUEST_CRATES.contains(&name.as_str());
        if is_host_crate && layer(name).is_none() {
            violations.push(format!("{name} has no layer: add it to the table"));
        }
        for dependency in dependencies {
            if let (Some((own, allowed)), Some((other, _))) = (layer(name), layer(dependency))
                && !allowed.contains(other)
            {
                let allowed =
                    if allowed.is_empty() { "nothing".into() } else { allowed.join(", ") };
                violations.push(format!("{own} depends on {other}; it may depend on: {allowed}"));
            }
            if let Some((_, owner)) = OWNERS.iter().find(|(library, _)| library == dependency)
                && *name != package(owner)
                && (is_host_crate || name == "plugboard")
            {
                violations.push(format!("{name} names {dependency}, which only {owner} may"));
            }
            if dependency == "plugboard" {
                violations.push(format!("{name} depends on the program"));
            }
        }
    }
    for (name, _) in LAYERS {
        if !graph.contains_key(&package(name)) {
            violations.push(format!("the table has a layer for {name}, which is not a crate"));
        }
    }
    violations
}

/// Returns the crates that do not forbid `unsafe` code, but should.
fn unsafe_code(host: &Path) -> Result<Vec<String>> {
    let roots =
        LAYERS.iter().map(|(name, _)| (*name, host.join("crates").join(name).join("src/lib.rs")));
    let mut violations = Vec::new();
    for (name, path) in roots.chain([("plugboard", host.join("src/main.rs"))]) {
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if name != UNSAFE_ALLOWED && !text.contains("#![forbid(unsafe_code)]") {
            violations.push(format!("{name} does not have #![forbid(unsafe_code)]"));
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the output of `cargo tree` for a workspace in which each crate has all allowed
    /// dependencies, plus one more dependency.
    fn tree_with(extra: &str) -> String {
        let mut text = String::new();
        for (name, allowed) in LAYERS {
            text += &format!("0plugboard-{name} v0.1.0 (/w/host/crates/{name})\n");
            for other in *allowed {
                text += &format!("1plugboard-{other} v0.1.0 (/w/host/crates/{other}) (*)\n");
            }
            if let Some((crate_name, dependency)) = extra.split_once(" -> ")
                && crate_name == *name
            {
                text += &format!("1{dependency} v1.0.0\n\n");
            }
        }
        text
    }

    #[test]
    fn layers_only_name_lower_layers() {
        for (index, (name, allowed)) in LAYERS.iter().enumerate() {
            for other in *allowed {
                let place = LAYERS.iter().position(|(known, _)| known == other);
                assert!(place.is_some_and(|place| place < index), "{name} -> {other}");
            }
        }
    }

    #[test]
    fn allowed_dependencies_pass() {
        assert_eq!(forbidden_dependencies(&parse(&tree_with(""))), Vec::<String>::new());
        assert!(forbidden_dependencies(&parse(&tree_with("core -> serde"))).is_empty());
        assert!(forbidden_dependencies(&parse(&tree_with("runtime -> wasmtime"))).is_empty());
    }

    #[test]
    fn forbidden_dependencies_are_named() {
        for (extra, expected) in [
            ("core -> plugboard-store", "core depends on store; it may depend on: nothing"),
            ("platform -> plugboard-runtime", "platform depends on runtime; it may"),
            ("routing -> plugboard-events", "routing depends on events; it may"),
            ("server -> wasmtime", "plugboard-server names wasmtime, which only runtime may"),
            ("events -> rusqlite", "plugboard-events names rusqlite, which only store may"),
            ("server -> plugboard", "plugboard-server depends on the program"),
        ] {
            let violations = forbidden_dependencies(&parse(&tree_with(extra)));
            assert_eq!(violations.len(), 1, "{extra}: {violations:?}");
            assert!(violations[0].contains(expected), "{extra}: {violations:?}");
        }
        let unknown = tree_with("") + "0plugboard-extra v0.1.0 (/w/host/crates/extra)\n";
        let violations = forbidden_dependencies(&parse(&unknown));
        assert_eq!(violations, ["plugboard-extra has no layer: add it to the table"]);
        let missing = tree_with("").replace("0plugboard-simulate ", "0other ");
        let violations = forbidden_dependencies(&parse(&missing));
        assert_eq!(violations, ["the table has a layer for simulate, which is not a crate"]);
    }
}
