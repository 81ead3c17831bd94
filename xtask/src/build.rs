//! Building what is not built by `cargo build`: guests for WebAssembly, each
//! under the name that it is deployed by.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::{self, Result, cargo, output, program};
use crate::root;

/// The sample plugins, in the order of the chain.
const PLUGINS: [(&str, &str); 8] = [
    // Whether anybody is there is asked before where a call goes.
    ("05", "office-hours"),
    ("10", "number-plan"),
    ("20", "ab-split"),
    ("30", "crm-lookup"),
    ("40", "appointments"),
    ("50", "call-analytics"),
    ("60", "transcript-log"),
    ("70", "avr-app-tee"),
];

/// Fixture guests that are built in another way than for wasm32-wasip2.
const BARE_TARGET: &str = "wasm32-unknown-unknown";
const TARGET: &str = "wasm32-wasip2";

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the programs are.
pub fn release() -> PathBuf {
    target().join("release")
}

/// Where the sample plugins are.
pub fn plugin_folder() -> PathBuf {
    target().join("plugins")
}

/// Where `run` keeps its data.
pub fn data_folder() -> PathBuf {
    target().join("data")
}

/// Where what drives a browser is installed, and the page's pictures are.
pub fn browser_folder() -> PathBuf {
    target().join("page")
}

/// Builds the programs. Always the whole workspace: cargo picks the features of
/// shared dependencies by what is built together, and would build wasmtime again
/// for another selection.
pub fn host() -> Result {
    command::run(cargo(["build", "--release", "--workspace"]))
}

/// Builds the sample plugins, and lays them out as a plugin folder.
pub fn plugins() -> Result {
    add_target(TARGET)?;
    let mut build = cargo(plugin_build(TARGET));
    for (_, name) in PLUGINS {
        build.args(["--package", name]);
    }
    command::run(build)?;
    for (order, name) in PLUGINS {
        let deployed = plugin_folder().join(format!("{order}-{name}"));
        deploy(&artifact(TARGET, name), &deployed.with_extension("wasm"))?;
        let settings = root().join("plugins").join(name).join(name).with_extension("toml");
        deploy(&settings, &deployed.with_extension("toml"))?;
    }
    Ok(())
}

/// Builds the fixture guests of the whole-system tests.
pub fn guests() -> Result {
    add_target(TARGET)?;
    add_target(BARE_TARGET)?;
    let folder = target().join("guests");
    command::run(cargo(plugin_build(TARGET).chain([
        "--package",
        "guests",
        "--examples",
        "--features",
        "guests",
    ])))?;
    let examples = target().join(TARGET).join("plugin/examples");
    for guest in names(&examples)? {
        deploy(&examples.join(&guest), &folder.join(guest.replace('_', "-")))?;
    }
    // With what a strip takes away, for who wants to know where it traps. A profile of
    // its own has a folder of its own.
    let mut named = cargo(["build", "--profile", "named", "--target", TARGET]);
    named.args(["--config", "profile.named.inherits='plugin'"]);
    named.args(["--config", "profile.named.strip=false", "--config", "profile.named.debug=1"]);
    named.args(["--package", "guests", "--example", "panics", "--features", "guests"]);
    command::run(named)?;
    deploy(
        &target().join(TARGET).join("named/examples/panics.wasm"),
        &folder.join("with-names.wasm"),
    )?;
    // What the default linker makes of a crate without WASI is a core module;
    // with the linker of wasm32-wasip2 it is a component.
    let core_module = ["--package", "guests", "--example", "core-module", "--features", "guests"];
    command::run(cargo(plugin_build(BARE_TARGET).chain(core_module)))?;
    deploy(
        &target().join(BARE_TARGET).join("plugin/examples/core_module.wasm"),
        &folder.join("core-module.wasm"),
    )?;
    let mut component = cargo(plugin_build(BARE_TARGET).chain(["--package", "number-plan"]));
    component.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld");
    command::run(component)?;
    deploy(&artifact(BARE_TARGET, "number-plan"), &folder.join("without-wasi.wasm"))
}

/// How plugins are built for a target.
fn plugin_build(target: &'static str) -> impl Iterator<Item = &'static str> {
    ["build", "--profile", "plugin", "--target", target].into_iter()
}

/// The file that cargo made of a plugin crate.
fn artifact(target_name: &str, package: &str) -> PathBuf {
    let file = format!("{}.wasm", package.replace('-', "_"));
    target().join(target_name).join("plugin").join(file)
}

/// Components in a folder, without those that cargo keeps under a hash.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.ends_with(".wasm") && !name.contains('-')).collect())
}

/// Copies under another name and renames, as a plugin should be deployed.
pub fn deploy(from: &Path, to: &Path) -> Result {
    let temporary = to.with_extension("tmp");
    let copy = || {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, &temporary)?;
        fs::rename(&temporary, to)
    };
    copy().map_err(|error| format!("cannot copy {} to {}: {error}", from.display(), to.display()))
}

/// A list of targets in a toolchain file is not always fetched by rustup
/// (`RUSTUP_AUTO_INSTALL=0`), so this asks for it.
fn add_target(name: &str) -> Result {
    if target_is_there(name) {
        return Ok(());
    }
    let mut rustup = program("rustup");
    rustup.args(["target", "add", name]);
    command::run(rustup).map_err(|error| {
        format!(
            "{error}\nThe target {name} is needed to build plugins. Without rustup, install it with \
             the package that rustc came in."
        )
    })
}

/// Whether rustc has the target's standard library, however it was installed.
fn target_is_there(name: &str) -> bool {
    let mut rustc = program(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", name]);
    output(rustc).is_ok_and(|folder| {
        fs::read_dir(folder.trim()).is_ok_and(|mut entries| entries.next().is_some())
    })
}
