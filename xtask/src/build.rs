//! Builds of the programs, and of plugins for WebAssembly under their deployed names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, Result, cargo, output, program};
use crate::root;
use crate::tools::Stamp;

/// The sample plugins, in the order of the chain.
const PLUGINS: [(&str, &str); 8] = [
    // Opening hours come before destinations.
    ("05", "office-hours"),
    ("10", "number-plan"),
    ("20", "ab-split"),
    ("30", "crm-lookup"),
    ("40", "appointments"),
    ("50", "call-analytics"),
    ("60", "transcript-log"),
    ("70", "avr-app-tee"),
];

/// Rust target of plugins.
const TARGET: &str = "wasm32-wasip2";
/// Target of fixture guests without WASI.
const BARE_TARGET: &str = "wasm32-unknown-unknown";

/// Returns cargo's target directory.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Returns the directory of the programs that `run` and `test` use.
pub fn release() -> PathBuf {
    target().join("release")
}

/// Returns the directory of the programs as they are packaged.
pub fn dist() -> PathBuf {
    target().join("dist")
}

/// Returns the directory of the sample plugins.
pub fn plugin_folder() -> PathBuf {
    target().join("plugins")
}

/// Returns the data directory of `run`.
pub fn data_folder() -> PathBuf {
    target().join("data")
}

/// Returns the directory of the browser driver and of the page's screenshots.
pub fn browser_folder() -> PathBuf {
    target().join("page")
}

/// Builds the server and nothing else. It selects the whole workspace, because that
/// decides the features of third-party crates, and they must be those of the tests.
pub fn server() -> Result {
    command::run(cargo(["build", "--release", "--workspace", "--bin", "plugboard"]))
}

/// Builds the server and the sample plugins at the same time. Cargo locks its target
/// directory by profile, and either build alone leaves a core idle now and then.
pub fn server_and_plugins() -> Result {
    let plugins = std::thread::spawn(plugins);
    let server = server();
    let plugins = plugins.join().map_err(|_| "the build of the plugins panicked")?;
    server.and(plugins)
}

/// Builds all programs, also those that only tests start.
pub fn programs() -> Result {
    command::run(cargo(["build", "--release", "--workspace", "--bins"]))
}

/// Builds the server as it is packaged, and the bench.
pub fn packaged() -> Result {
    let packages = "--package plugboard --package bench --bins";
    command::run(cargo(["build", "--profile", "dist"].into_iter().chain(packages.split(' '))))
}

/// Builds the sample plugins, and deploys them into one plugin folder.
pub fn plugins() -> Result {
    add_target(TARGET)?;
    command::run(plugin_build(&plugin_selection()))?;
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
    let mut examples = plugin_build(&guest_selection());
    examples.arg("--examples");
    command::run(examples)?;
    let examples = target().join(TARGET).join("plugin/examples");
    for guest in names(&examples)? {
        deploy(&examples.join(&guest), &folder.join(guest.replace('_', "-")))?;
    }
    named_guest(&folder.join("with-names.wasm"))?;
    // Without WASI, the default linker makes a core module; the linker of wasm32-wasip2
    // makes a component.
    let bare = |selection| plugin_build(&format!("--target {BARE_TARGET} {selection}"));
    command::run(bare("--package guests --features guests --example core-module"))?;
    deploy(
        &target().join(BARE_TARGET).join("plugin/examples/core_module.wasm"),
        &folder.join("core-module.wasm"),
    )?;
    let mut component = bare("--package number-plan");
    component.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld");
    command::run(component)?;
    deploy(&artifact(BARE_TARGET, "number-plan"), &folder.join("without-wasi.wasm"))
}

/// Builds the guest that panics a second time, with names and line numbers for backtraces.
fn named_guest(deployed: &Path) -> Result {
    let sources = ["tests/guests/examples/panics.rs", "guest-sdk/src", "wit"];
    let inputs = [&sources[..], &["tests/guests/Cargo.toml", "Cargo.toml", "Cargo.lock"]].concat();
    let inputs: Vec<PathBuf> = inputs.iter().map(|input| root().join(input)).collect();
    Stamp::new("with-names", &inputs, deployed)?.unless_made(|| {
        // A separate profile would build every dependency again, including macros. With the
        // same profile, both variants of the guest have the same output file, and cargo does
        // not notice that. The file is therefore removed before and after.
        let built = target().join(TARGET).join("plugin/examples/panics.wasm");
        let remove = || {
            fs::remove_file(&built)
                .map_err(|error| format!("cannot remove {}: {error}", built.display()))
        };
        remove()?;
        let mut named = plugin_build(&guest_selection());
        named.args(["--example", "panics"]);
        named.args(["--config", "profile.plugin.package.guests.strip=false"]);
        named.args(["--config", "profile.plugin.package.guests.debug='limited'"]);
        command::run(named)?;
        deploy(&built, deployed)?;
        remove()
    })
}

/// Returns a build with the profile of plugins.
fn plugin_build(selection: &str) -> Command {
    let mut build = cargo(["build", "--profile", "plugin"]);
    build.args(selection.split_whitespace());
    build
}

/// Returns arguments with which cargo selects the sample plugins for WebAssembly.
pub fn plugin_selection() -> String {
    let packages = PLUGINS.map(|(_, name)| format!(" --package {name}"));
    format!("--target {TARGET}{}", packages.concat())
}

/// Returns arguments with which cargo selects the fixture guests for WebAssembly.
pub fn guest_selection() -> String {
    format!("--target {TARGET} --package guests --features guests")
}

/// Returns the file that cargo builds from a plugin crate.
fn artifact(target_name: &str, package: &str) -> PathBuf {
    let file = format!("{}.wasm", package.replace('-', "_"));
    target().join(target_name).join("plugin").join(file)
}

/// Returns the components in a folder, without cargo's own copies, whose names have a hash.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.ends_with(".wasm") && !name.contains('-')).collect())
}

/// Copies a file to a temporary name and renames it, so that it appears as a whole.
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

/// Installs a target. A toolchain file does not suffice: with `RUSTUP_AUTO_INSTALL=0`
/// rustup ignores its list of targets.
fn add_target(name: &str) -> Result {
    if has_target(name) {
        return Ok(());
    }
    let mut rustup = program("rustup");
    rustup.args(["target", "add", name]);
    command::run(rustup).map_err(|error| {
        format!(
            "{error}\nThe target {name} is needed to build plugins. Without rustup, install it from \
             the same source as rustc."
        )
    })
}

/// Returns whether rustc has the target's standard library, from rustup or not.
fn has_target(name: &str) -> bool {
    let mut rustc = program(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", name]);
    output(rustc).is_ok_and(|folder| {
        fs::read_dir(folder.trim()).is_ok_and(|mut entries| entries.next().is_some())
    })
}
