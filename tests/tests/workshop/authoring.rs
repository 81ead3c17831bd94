//! The way of an author: `plugboard new`, `cargo test`, `plugboard build --deploy`, and a
//! call that is routed by what came of it.
//!
//! Cargo really builds here, into one folder below the target folder, so that it builds
//! dependencies once. Its builds wait for one another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::{PluginFolder, ServerBuilder, call_initiated, program};

/// Where the call of [`initiated`] is sent by a router as it was generated.
const VIP_URL: &str = "ws://sts-vip:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

/// An author's folder.
struct Desk(TempDir);

/// What a command came to.
struct Done {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plugboard(&self, arguments: &[&str]) -> Done {
        self.plugboard_with(arguments, &[])
    }

    fn plugboard_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        run(Command::new(program()).args(arguments), self.0.path(), environment)
    }

    /// Makes a plugin that is there afterwards.
    fn make(&self, name: &str, kind: &str) {
        let made = self.plugboard(&["new", name, "--kind", kind]);
        assert_eq!(made.status, Some(0), "{}", made.stderr);
        assert!(made.stdout.contains(&format!("Made {name}: ")), "{}", made.stdout);
    }

    /// The plugin's own tests.
    fn test(&self, name: &str) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let tested = run(cargo.arg("test"), &self.path(name), &[]);
        assert_eq!(tested.status, Some(0), "{name}: {}\n{}", tested.stdout, tested.stderr);
        // Not cargo's own, of a network that is slow.
        let is_of_source = |line: &str| line.trim_start().starts_with("--> src/");
        assert!(!tested.stderr.lines().any(is_of_source), "{name}: {}", tested.stderr);
        assert!(tested.stdout.contains("\ntest tests::"), "{name}: {}", tested.stdout);
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }
}

/// Runs a command where it builds into the folder of these tests.
fn run(command: &mut Command, folder: &Path, environment: &[(&str, &str)]) -> Done {
    set_apart(command).current_dir(folder).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Done { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Has whatever a command builds built into the folder of these tests, and not as the
/// program itself is built.
pub(super) fn set_apart(command: &mut Command) -> &mut Command {
    let program = program();
    let target = program.ancestors().nth(2).unwrap().join("authoring");
    command.env("CARGO_TARGET_DIR", target);
    // What cargo and the environment say of the program's own build is not for others.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PROFILE_", "CARGO_PKG_", "CARGO_MANIFEST_", "PLUGBOARD_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            command.env_remove(&name);
        }
    }
    // Nobody builds the same twice.
    command.env("CARGO_INCREMENTAL", "0")
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn from_a_name_to_a_call_that_is_routed() {
    let desk = Desk::new();
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    assert_eq!(server.route_call().await, None);

    desk.make("vip", "router");
    desk.test("vip");
    let built = desk.plugboard(&["build", "vip", "--deploy", text(folder.path())]);
    assert_eq!(built.status, Some(0), "{}", built.stderr);
    assert!(built.stdout.contains("built     vip: router, "), "{}", built.stdout);
    assert!(built.stdout.contains("10-vip.wasm\ndeployed  "), "{}", built.stdout);
    assert_eq!(names(folder.path()), ["10-vip.toml", "10-vip.wasm"]);
    server.wait_for_route(Some(VIP_URL)).await;
    let told = server.admin_post("/explain", call_initiated()).await.body;
    assert_eq!(told["by"], "10-vip");

    // What an operator made of name and settings stays.
    let ours = "[config]\ncallers = ['2000']\nsts_url = 'ws://ours/'\n";
    fs::remove_file(folder.file("10-vip", "toml")).unwrap();
    fs::rename(folder.file("10-vip", "wasm"), folder.file("35-vip", "wasm")).unwrap();
    folder.replace_settings("35-vip", ours);
    server.wait_for_route(Some("ws://ours/")).await;
    desk.replace("vip/src/lib.rs", "route(config::require(\"sts_url\")?)", "route(\"ws://new/\")");
    desk.replace("vip/vip.toml", "\"2001\"", "\"2002\"");
    let again = desk.plugboard(&["build", "vip", "--deploy", text(folder.path())]);
    assert_eq!(again.status, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("35-vip.toml: the server's own"), "{}", again.stdout);
    assert_eq!(names(folder.path()), ["35-vip.toml", "35-vip.wasm"]);
    assert_eq!(fs::read_to_string(folder.file("35-vip", "toml")).unwrap(), ours);
    server.wait_for_route(Some("ws://new/")).await;
    // Unless the author says otherwise.
    let deploy = ["build", "vip", "--deploy", text(folder.path()), "--settings"];
    assert_eq!(desk.plugboard(&deploy).status, Some(0));
    let settings = fs::read_to_string(folder.file("35-vip", "toml")).unwrap();
    assert_eq!(settings, fs::read_to_string(desk.path("vip/vip.toml")).unwrap());

    // What does not compile is not deployed, and rustc says why.
    let before = fs::read(folder.file("35-vip", "wasm")).unwrap();
    desk.replace("vip/src/lib.rs", "pass()", "pass(nonsense)");
    let failed = desk.plugboard(&["build", "vip", "--deploy", text(folder.path())]);
    assert_eq!(failed.status, Some(1), "{}", failed.stdout);
    assert!(failed.stderr.contains("cannot find value `nonsense`"), "{}", failed.stderr);
    assert!(failed.stderr.contains("failed    vip: "), "{}", failed.stderr);
    assert_eq!(fs::read(folder.file("35-vip", "wasm")).unwrap(), before);
    assert_eq!(names(folder.path()), ["35-vip.toml", "35-vip.wasm"]);
}

#[test]
fn every_kind_is_tested_and_built_as_it_is_made() {
    let desk = Desk::new();
    // In a folder that is a workspace of somebody else.
    fs::write(desk.path("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let folder = PluginFolder::new();
    for kind in ["observer", "tools", "full"] {
        desk.make(&format!("my-{kind}"), kind);
        desk.test(&format!("my-{kind}"));
    }
    let paths = ["my-observer", "my-tools/Cargo.toml", "my-full", "my-tools"];
    let deploy = ["--deploy", text(folder.path())];
    let built = desk.plugboard(&[&["build"][..], &paths, &deploy].concat());
    assert_eq!(built.status, Some(0), "{}", built.stderr);
    for line in [
        "built     my-observer: observer, ",
        "built     my-tools: tools, ",
        "built     my-full: router, observer, tools, transfers, ",
        "3 built, 0 failed\n",
        "\nWhat the server makes of it: curl http://127.0.0.1:9901/plugins\n",
    ] {
        assert!(built.stdout.contains(line), "{line:?} is not in:\n{}", built.stdout);
    }
    let mut wasm = names(folder.path());
    wasm.retain(|name| name.ends_with(".wasm"));
    assert_eq!(wasm, ["10-my-observer.wasm", "20-my-tools.wasm", "30-my-full.wasm"]);
    let checked = desk.plugboard(&["check", "--plugins", text(folder.path())]);
    assert_eq!(checked.status, Some(0), "{}{}", checked.stdout, checked.stderr);
}

#[test]
fn the_plugins_of_a_workspace_are_built_and_a_bad_one_harms_no_other() {
    let desk = Desk::new();
    let members = "[workspace]\nresolver = '3'\nmembers = ['good', 'bad', 'other']\n";
    for name in ["good", "bad"] {
        desk.make(name, "router");
        desk.replace(&format!("{name}/Cargo.toml"), "[workspace]\n", "");
    }
    fs::copy(desk.path("good/Cargo.lock"), desk.path("Cargo.lock")).unwrap();
    fs::write(desk.path("Cargo.toml"), members).unwrap();
    // One that is no plugin, although it has one for an example.
    fs::create_dir_all(desk.path("other/src")).unwrap();
    fs::create_dir_all(desk.path("other/examples")).unwrap();
    for file in ["other/src/lib.rs", "other/examples/plugin.rs"] {
        fs::write(desk.path(file), "compile_error!(\"not asked for\");").unwrap();
    }
    let manifest = fs::read_to_string(desk.path("good/Cargo.toml")).unwrap();
    let (manifest, _) = manifest.split_once("[profile").unwrap();
    let manifest = manifest.replace("\"good\"", "\"other\"");
    let manifest = manifest.replace("[lib]", "[[example]]\nname = \"plugin\"");
    fs::write(desk.path("other/Cargo.toml"), manifest).unwrap();
    // It compiles, and a server cannot load it with its settings.
    desk.replace("bad/bad.toml", "[config]", "[confg]");
    let folder = PluginFolder::new();
    let built = desk.plugboard(&["build", "--deploy", text(folder.path())]);
    assert_eq!(built.status, Some(1), "{}", built.stdout);
    assert!(built.stdout.contains("built     good: router, "), "{}", built.stdout);
    assert!(built.stdout.contains("1 built, 1 failed"), "{}", built.stdout);
    assert!(built.stderr.contains("failed    bad: "), "{}", built.stderr);
    assert!(built.stderr.contains("did you mean `config`?"), "{}", built.stderr);
    assert_eq!(names(folder.path()), ["10-good.toml", "10-good.wasm"]);

    // The component itself can be what is wrong, whatever the settings say.
    desk.replace("bad/bad.toml", "[confg]", "enabled = false\n[config]");
    desk.replace("bad/src/lib.rs", "plugboard_sdk::export!(Bad: Router);", "");
    let built = desk.plugboard(&["build", "bad", "--deploy", text(folder.path())]);
    assert_eq!(built.status, Some(1), "{}", built.stdout);
    assert!(built.stderr.contains("failed    bad: "), "{}", built.stderr);
    assert!(built.stderr.contains("plugboard:plugin/router@"), "{}", built.stderr);
    assert_eq!(names(folder.path()), ["10-good.toml", "10-good.wasm"]);

    // What is switched off is judged with its settings, too.
    desk.replace("good/good.toml", "[config]", "enabled = false\n[tools]\nnames = ['x']\n[config]");
    let built = desk.plugboard(&["build", "good", "--settings", "--deploy", text(folder.path())]);
    assert_eq!(built.status, Some(1), "{}", built.stdout);
    assert!(built.stderr.contains("it exports no tools"), "{}", built.stderr);
    desk.replace("good/good.toml", "[tools]\nnames = ['x']\n", "");
    let built = desk.plugboard(&["build", "good", "--settings", "--deploy", text(folder.path())]);
    assert_eq!(built.status, Some(0), "{}", built.stderr);
    assert!(built.stdout.contains("built     good: router, "), "{}", built.stdout);
    let deployed = fs::read(folder.file("10-good", "toml")).unwrap();
    assert_eq!(deployed, fs::read(desk.path("good/good.toml")).unwrap());

    let named = ["build", "--deploy", text(folder.path()), "--name", "20-x"];
    let refused = desk.plugboard(&named);
    assert_eq!(refused.status, Some(2));
    assert!(refused.stderr.contains("good"), "{}", refused.stderr);
    let refused = desk.plugboard(&["build", "other"]);
    assert_eq!(refused.status, Some(2));
    assert!(refused.stderr.contains("is of no plugin"), "{}", refused.stderr);
}

#[test]
fn a_target_that_is_missing_is_named_or_installed() {
    let desk = Desk::new();
    desk.make("vip", "router");
    // As a toolchain without the target answers; rustup makes it one that has it.
    let library = desk.path("library");
    let script = |name: &str, text: String| {
        let file = desk.path(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, permissions).unwrap();
        file
    };
    let rustc = script("rustc", format!("echo {}", library.display()));
    let broken = script("broken", "echo no toolchain here >&2; exit 1".to_owned());
    let rustup =
        script("rustup", format!("echo \"$@\" > {}/said; exit 1", desk.path("").display()));
    let environment = [("RUSTC", text(&rustc)), ("RUSTUP", text(&rustup))];

    let refused = desk.plugboard_with(&["build", "vip"], &environment);
    assert_eq!(refused.status, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("rustup target add wasm32-wasip2"), "{}", refused.stderr);
    assert!(!desk.path("said").exists(), "nobody agreed");
    let tried = desk.plugboard_with(&["build", "vip", "--yes"], &environment);
    assert_eq!(tried.status, Some(1), "{}", tried.stdout);
    assert!(tried.stderr.contains("did not install it"), "{}", tried.stderr);
    let said = fs::read_to_string(desk.path("said")).unwrap();
    assert_eq!(said, "target add wasm32-wasip2\n");
    let failed = desk.plugboard_with(&["build", "vip"], &[("RUSTC", text(&broken))]);
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("no toolchain here"), "{}", failed.stderr);
    // It is the failure of that crate, and the next one is tried.
    desk.make("next", "router");
    let failed = desk.plugboard_with(&["build", "vip", "next"], &[("RUSTC", text(&broken))]);
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("failed    vip: "), "{}", failed.stderr);
    assert!(failed.stderr.contains("failed    next: "), "{}", failed.stderr);
    assert!(failed.stdout.contains("0 built, 2 failed"), "{}", failed.stdout);
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    for name in ["Vip", "2vip", "match", "serde", "../vip", ""] {
        let refused = desk.plugboard(&["new", name]);
        assert_eq!(refused.status, Some(2), "{name}: {}", refused.stdout);
        assert!(refused.stderr.contains("NAME"), "{name}: {}", refused.stderr);
    }
    let refused = desk.plugboard(&["new", "vip", "--sdk", "."]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("(--sdk) is not the SDK"), "{}", refused.stderr);
    let refused = desk.plugboard(&["new", "vip", "--path", "nowhere"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("nowhere"), "{}", refused.stderr);
    assert!(names(&desk.path("")).is_empty());

    fs::create_dir(desk.path("full")).unwrap();
    fs::write(desk.path("full/mine"), "mine").unwrap();
    fs::write(desk.path("file"), "mine").unwrap();
    for (name, expected) in [("full", "is not empty"), ("file", "is no folder")] {
        let refused = desk.plugboard(&["new", name]);
        assert_eq!(refused.status, Some(1));
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    assert_eq!(names(&desk.path("")), ["file", "full"]);
    assert_eq!(names(&desk.path("full")), ["mine"]);
    // An empty one is as good as none.
    fs::create_dir(desk.path("vip")).unwrap();
    desk.make("vip", "router");
    assert!(desk.path("vip/src/lib.rs").exists());
    assert_eq!(names(&desk.path("")), ["file", "full", "vip"]);
}

#[test]
fn there_is_nothing_to_build_where_no_plugin_is() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "").unwrap();
    for (arguments, expected) in [
        (&["build"][..], "has no plugin in it"),
        (&["build", "nowhere"], "nowhere is not there"),
        (&["build", "file"], "is neither a folder nor a Cargo.toml"),
        (&["build", "--name", "10-vip"], "--deploy"),
        (&["build", "--settings"], "--deploy"),
        (&["build", "--deploy", ".", "--name", "10-vip.wasm"], "leave the ending out: 10-vip"),
    ] {
        let refused = desk.plugboard(arguments);
        assert_eq!(refused.status, Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{arguments:?}: {}", refused.stderr);
    }
    desk.make("vip", "router");
    let refused = desk.plugboard(&["build", "--deploy", "nowhere"]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("nowhere (--deploy) is no folder"), "{}", refused.stderr);
    fs::create_dir_all(desk.path("twin/src")).unwrap();
    for file in ["Cargo.toml", "src/lib.rs"] {
        fs::copy(desk.path("vip").join(file), desk.path("twin").join(file)).unwrap();
    }
    desk.replace("twin/Cargo.toml", "name = \"vip\"", "name = \"vip\"\nautotests = false");
    let refused = desk.plugboard(&["build", "vip", "twin", "--deploy", "."]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("twin have one name"), "{}", refused.stderr);
    // A folder without room is told before anything is built.
    fs::create_dir(desk.path("full")).unwrap();
    fs::write(desk.path("full/99-last.wasm"), "").unwrap();
    let refused = desk.plugboard(&["build", "vip", "--deploy", "full"]);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.starts_with("failed    vip: no number is left"), "{}", refused.stderr);
    fs::write(desk.path("vip/Cargo.toml"), "[package\n").unwrap();
    let refused = desk.plugboard(&["build"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("cargo cannot read "), "{}", refused.stderr);
}
