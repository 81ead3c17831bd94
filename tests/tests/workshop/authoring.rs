//! Development of a plugin: `plugboard new`, `cargo test`, `plugboard build --deploy`, and
//! a call that the deployed plugin routes.
//!
//! The tests run cargo. All builds share one folder below the target folder, so that cargo
//! builds dependencies once. The builds therefore run one after another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use tests::{PluginFolder, ServerBuilder, call_initiated, packaged_sdk, program};

/// URL to which the unchanged router template routes the call of [`call_initiated`].
const VIP_URL: &str = "ws://sts-vip:6030/?uuid=935652e3-7c59-4edc-b17f-9646a9c2a265";

/// Temporary working folder of a plugin author.
struct AuthorFolder(TempDir);

/// Exit status and output of a command.
struct ProcessOutput {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl AuthorFolder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn plugboard(&self, arguments: &[&str]) -> ProcessOutput {
        self.plugboard_with(arguments, &[])
    }

    fn plugboard_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> ProcessOutput {
        run(Command::new(program()).args(arguments), self.0.path(), environment)
    }

    /// Creates a plugin from the template of a kind.
    fn create_plugin(&self, name: &str, kind: &str) {
        let output = self.plugboard(&["new", name, "--kind", kind]);
        assert_eq!(output.status, Some(0), "{}", output.stderr);
        assert!(output.stdout.contains(&format!("Created {name}: ")), "{}", output.stdout);
    }

    /// Runs the plugin's own tests, and asserts that its sources cause no warnings.
    fn test_plugin(&self, name: &str) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let output = run(cargo.arg("test"), &self.path(name), &[]);
        assert_eq!(output.status, Some(0), "{name}: {}\n{}", output.stdout, output.stderr);
        // Cargo's own warnings, such as those about a slow network, do not count.
        let is_source_warning = |line: &str| line.trim_start().starts_with("--> src/");
        assert!(!output.stderr.lines().any(is_source_warning), "{name}: {}", output.stderr);
        assert!(output.stdout.contains("\ntest tests::"), "{name}: {}", output.stdout);
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }
}

/// Runs a command in a folder. Its builds go to the folder of these tests.
fn run(command: &mut Command, folder: &Path, environment: &[(&str, &str)]) -> ProcessOutput {
    isolate_build(command).current_dir(folder).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    ProcessOutput { status: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Makes a command build into the folder of these tests, without the settings of the
/// program's own build.
pub(super) fn isolate_build(command: &mut Command) -> &mut Command {
    let program = program();
    let target = program.ancestors().nth(2).unwrap().join("authoring");
    command.env("CARGO_TARGET_DIR", target);
    // These variables describe the build of the tests, and would change other builds.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PROFILE_", "CARGO_PKG_", "CARGO_MANIFEST_", "PLUGBOARD_"]
            .iter()
            .any(|start| text.starts_with(start))
        {
            command.env_remove(&name);
        }
    }
    // Incremental builds cost time and space, and each source is built only once.
    command.env("CARGO_INCREMENTAL", "0")
}

/// Copy of the program outside of the repository.
struct InstalledProgram<'a> {
    author: &'a AuthorFolder,
    program: PathBuf,
}

impl<'a> InstalledProgram<'a> {
    /// Copies the program to the author's folder.
    fn new(author: &'a AuthorFolder) -> Self {
        let installed = author.path("plugboard");
        // Another process copies it. Linux executes no file that a process has open for
        // writing, and a parallel test can start a process that inherits the open file.
        let copied = Command::new("cp").arg(program()).arg(&installed).status().unwrap();
        assert!(copied.success());
        Self { author, program: installed }
    }

    fn plugboard(&self, arguments: &[&str]) -> ProcessOutput {
        run(Command::new(&self.program).args(arguments), self.author.0.path(), &[])
    }

    /// Creates a plugin with the default template, a router.
    fn create_plugin(&self, name: &str) {
        let output = self.plugboard(&["new", name]);
        assert_eq!(output.status, Some(0), "{}", output.stderr);
    }
}

/// Returns the contents of the files below a folder, by their relative paths.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                all.insert(path.strip_prefix(folder).unwrap().to_owned(), content);
            }
        }
    }
    all
}

/// Returns the sorted names of a folder's entries.
fn entry_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

fn path_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn new_plugin_routes_calls_after_build_and_deploy() {
    let author = AuthorFolder::new();
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    assert_eq!(server.route_call().await, None);

    author.create_plugin("vip", "router");
    author.test_plugin("vip");
    let build = author.plugboard(&["build", "vip", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    assert!(build.stdout.contains("built     vip: router, "), "{}", build.stdout);
    assert!(build.stdout.contains("10-vip.wasm\ndeployed  "), "{}", build.stdout);
    assert_eq!(entry_names(folder.path()), ["10-vip.toml", "10-vip.wasm"]);
    server.wait_for_route(Some(VIP_URL)).await;
    let explanation = server.admin_post("/explain", call_initiated()).await.body;
    assert_eq!(explanation["by"], "10-vip");

    // A deployment keeps the file name and the settings that the operator has changed.
    let operator_settings = "[config]\ncallers = ['2000']\nsts_url = 'ws://ours/'\n";
    fs::remove_file(folder.file("10-vip", "toml")).unwrap();
    fs::rename(folder.file("10-vip", "wasm"), folder.file("35-vip", "wasm")).unwrap();
    folder.replace_settings("35-vip", operator_settings);
    server.wait_for_route(Some("ws://ours/")).await;
    author.replace(
        "vip/src/lib.rs",
        "route(config::require(\"sts_url\")?)",
        "route(\"ws://new/\")",
    );
    author.replace("vip/vip.toml", "\"2001\"", "\"2002\"");
    let build = author.plugboard(&["build", "vip", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    assert!(build.stdout.contains("35-vip.toml: existing settings"), "{}", build.stdout);
    assert_eq!(entry_names(folder.path()), ["35-vip.toml", "35-vip.wasm"]);
    assert_eq!(fs::read_to_string(folder.file("35-vip", "toml")).unwrap(), operator_settings);
    server.wait_for_route(Some("ws://new/")).await;
    // The option `--settings` replaces the operator's settings.
    let deploy = ["build", "vip", "--deploy", path_str(folder.path()), "--settings"];
    assert_eq!(author.plugboard(&deploy).status, Some(0));
    let settings = fs::read_to_string(folder.file("35-vip", "toml")).unwrap();
    assert_eq!(settings, fs::read_to_string(author.path("vip/vip.toml")).unwrap());

    // A plugin that does not compile is not deployed, and the error of rustc is shown.
    let before = fs::read(folder.file("35-vip", "wasm")).unwrap();
    author.replace("vip/src/lib.rs", "pass()", "pass(nonsense)");
    let output = author.plugboard(&["build", "vip", "--deploy", path_str(folder.path())]);
    assert_eq!(output.status, Some(1), "{}", output.stdout);
    assert!(output.stderr.contains("cannot find value `nonsense`"), "{}", output.stderr);
    assert!(output.stderr.contains("failed    vip: "), "{}", output.stderr);
    assert_eq!(fs::read(folder.file("35-vip", "wasm")).unwrap(), before);
    assert_eq!(entry_names(folder.path()), ["35-vip.toml", "35-vip.wasm"]);
}

#[test]
fn every_template_passes_its_tests_and_builds() {
    let author = AuthorFolder::new();
    // The parent folder is a workspace that does not include the plugins.
    fs::write(author.path("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
    let folder = PluginFolder::new();
    for kind in ["observer", "tools", "full"] {
        author.create_plugin(&format!("my-{kind}"), kind);
        author.test_plugin(&format!("my-{kind}"));
    }
    let paths = ["my-observer", "my-tools/Cargo.toml", "my-full", "my-tools"];
    let deploy = ["--deploy", path_str(folder.path())];
    let build = author.plugboard(&[&["build"][..], &paths, &deploy].concat());
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    for line in [
        "built     my-observer: observer, ",
        "built     my-tools: tools, ",
        "built     my-full: router, observer, tools, transfers, ",
        "3 built, 0 failed\n",
        "\nState in the server: curl http://127.0.0.1:9901/plugins\n",
    ] {
        assert!(build.stdout.contains(line), "{line:?} is not in:\n{}", build.stdout);
    }
    let mut wasm = entry_names(folder.path());
    wasm.retain(|name| name.ends_with(".wasm"));
    assert_eq!(wasm, ["10-my-observer.wasm", "20-my-tools.wasm", "30-my-full.wasm"]);
    let check = author.plugboard(&["check", "--plugins", path_str(folder.path())]);
    assert_eq!(check.status, Some(0), "{}{}", check.stdout, check.stderr);
}

#[test]
fn workspace_build_deploys_good_plugins_when_one_fails() {
    let author = AuthorFolder::new();
    let members = "[workspace]\nresolver = '3'\nmembers = ['good', 'bad', 'other']\n";
    for name in ["good", "bad"] {
        author.create_plugin(name, "router");
        author.replace(&format!("{name}/Cargo.toml"), "[workspace]\n", "");
    }
    fs::copy(author.path("good/Cargo.lock"), author.path("Cargo.lock")).unwrap();
    fs::write(author.path("Cargo.toml"), members).unwrap();
    // This member is not a plugin, although one of its examples is.
    fs::create_dir_all(author.path("other/src")).unwrap();
    fs::create_dir_all(author.path("other/examples")).unwrap();
    for file in ["other/src/lib.rs", "other/examples/plugin.rs"] {
        fs::write(author.path(file), "compile_error!(\"not asked for\");").unwrap();
    }
    let manifest = fs::read_to_string(author.path("good/Cargo.toml")).unwrap();
    let (manifest, _) = manifest.split_once("[profile").unwrap();
    let manifest = manifest.replace("\"good\"", "\"other\"");
    let manifest = manifest.replace("[lib]", "[[example]]\nname = \"plugin\"");
    fs::write(author.path("other/Cargo.toml"), manifest).unwrap();
    // This plugin compiles, but a server cannot load it because its settings are invalid.
    author.replace("bad/bad.toml", "[config]", "[confg]");
    let folder = PluginFolder::new();
    let build = author.plugboard(&["build", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(1), "{}", build.stdout);
    assert!(build.stdout.contains("built     good: router, "), "{}", build.stdout);
    assert!(build.stdout.contains("1 built, 1 failed"), "{}", build.stdout);
    assert!(build.stderr.contains("failed    bad: "), "{}", build.stderr);
    assert!(build.stderr.contains("did you mean `config`?"), "{}", build.stderr);
    assert_eq!(entry_names(folder.path()), ["10-good.toml", "10-good.wasm"]);

    // A broken component fails the build even if its settings disable the plugin.
    author.replace("bad/bad.toml", "[confg]", "enabled = false\n[config]");
    author.replace("bad/src/lib.rs", "plugboard_sdk::export!(Bad: Router);", "");
    let build = author.plugboard(&["build", "bad", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(1), "{}", build.stdout);
    assert!(build.stderr.contains("failed    bad: "), "{}", build.stderr);
    assert!(build.stderr.contains("plugboard:plugin/router@"), "{}", build.stderr);
    assert_eq!(entry_names(folder.path()), ["10-good.toml", "10-good.wasm"]);

    // The settings of a disabled plugin are checked as well.
    author.replace(
        "good/good.toml",
        "[config]",
        "enabled = false\n[tools]\nnames = ['x']\n[config]",
    );
    let build =
        author.plugboard(&["build", "good", "--settings", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(1), "{}", build.stdout);
    assert!(build.stderr.contains("the component exports no tools"), "{}", build.stderr);
    author.replace("good/good.toml", "[tools]\nnames = ['x']\n", "");
    let build =
        author.plugboard(&["build", "good", "--settings", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    assert!(build.stdout.contains("built     good: router, "), "{}", build.stdout);
    let deployed = fs::read(folder.file("10-good", "toml")).unwrap();
    assert_eq!(deployed, fs::read(author.path("good/good.toml")).unwrap());

    let arguments = ["build", "--deploy", path_str(folder.path()), "--name", "20-x"];
    let output = author.plugboard(&arguments);
    assert_eq!(output.status, Some(2));
    assert!(output.stderr.contains("good"), "{}", output.stderr);
    let output = author.plugboard(&["build", "other"]);
    assert_eq!(output.status, Some(2));
    assert!(output.stderr.contains("is not the manifest of a plugin"), "{}", output.stderr);
}

#[test]
fn build_reports_or_installs_missing_target() {
    let author = AuthorFolder::new();
    author.create_plugin("vip", "router");
    // Scripts replace rustc and rustup: rustc reports a toolchain without the target, and
    // rustup writes its arguments to a file and fails.
    let library = author.path("library");
    let script = |name: &str, text: String| {
        let file = author.path(name);
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&file, permissions).unwrap();
        file
    };
    let rustc = script("rustc", format!("echo {}", library.display()));
    let broken = script("broken", "echo no toolchain here >&2; exit 1".to_owned());
    let rustup = script(
        "rustup",
        format!("echo \"$@\" > {}/rustup-arguments; exit 1", author.path("").display()),
    );
    let environment = [("RUSTC", path_str(&rustc)), ("RUSTUP", path_str(&rustup))];

    let output = author.plugboard_with(&["build", "vip"], &environment);
    assert_eq!(output.status, Some(1), "{}", output.stdout);
    assert!(output.stderr.contains("rustup target add wasm32-wasip2"), "{}", output.stderr);
    assert!(!author.path("rustup-arguments").exists(), "rustup ran without consent");
    let output = author.plugboard_with(&["build", "vip", "--yes"], &environment);
    assert_eq!(output.status, Some(1), "{}", output.stdout);
    assert!(output.stderr.contains("did not install the target"), "{}", output.stderr);
    let arguments = fs::read_to_string(author.path("rustup-arguments")).unwrap();
    assert_eq!(arguments, "target add wasm32-wasip2\n");
    let output = author.plugboard_with(&["build", "vip"], &[("RUSTC", path_str(&broken))]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("no toolchain here"), "{}", output.stderr);
    // The failure concerns one crate, and the build continues with the next one.
    author.create_plugin("next", "router");
    let output = author.plugboard_with(&["build", "vip", "next"], &[("RUSTC", path_str(&broken))]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("failed    vip: "), "{}", output.stderr);
    assert!(output.stderr.contains("failed    next: "), "{}", output.stderr);
    assert!(output.stdout.contains("0 built, 2 failed"), "{}", output.stdout);
}

#[test]
fn new_rejects_invalid_requests_without_leaving_files() {
    let author = AuthorFolder::new();
    for name in ["Vip", "2vip", "match", "serde", "../vip", ""] {
        let output = author.plugboard(&["new", name]);
        assert_eq!(output.status, Some(2), "{name}: {}", output.stdout);
        assert!(output.stderr.contains("NAME"), "{name}: {}", output.stderr);
    }
    let output = author.plugboard(&["new", "vip", "--sdk", "."]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("(--sdk) is not the SDK"), "{}", output.stderr);
    let output = author.plugboard(&["new", "vip", "--path", "nowhere"]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("nowhere"), "{}", output.stderr);
    assert!(entry_names(&author.path("")).is_empty());

    fs::create_dir(author.path("full")).unwrap();
    fs::write(author.path("full/mine"), "mine").unwrap();
    fs::write(author.path("file"), "mine").unwrap();
    for (name, expected) in [("full", "is not empty"), ("file", "is not a folder")] {
        let output = author.plugboard(&["new", name]);
        assert_eq!(output.status, Some(1));
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
    assert_eq!(entry_names(&author.path("")), ["file", "full"]);
    assert_eq!(entry_names(&author.path("full")), ["mine"]);
    // An empty folder is accepted as if it did not exist.
    fs::create_dir(author.path("vip")).unwrap();
    author.create_plugin("vip", "router");
    assert!(author.path("vip/src/lib.rs").exists());
    assert_eq!(entry_names(&author.path("")), ["file", "full", "vip"]);
}

#[test]
fn build_rejects_invalid_arguments_and_folders() {
    let author = AuthorFolder::new();
    fs::write(author.path("file"), "").unwrap();
    for (arguments, expected) in [
        (&["build"][..], "contains no plugin"),
        (&["build", "nowhere"], "nowhere does not exist"),
        (&["build", "file"], "is neither a folder nor a Cargo.toml"),
        (&["build", "--name", "10-vip"], "--deploy"),
        (&["build", "--settings"], "--deploy"),
        (&["build", "--deploy", ".", "--name", "10-vip.wasm"], "omit the extension: 10-vip"),
    ] {
        let output = author.plugboard(arguments);
        assert_eq!(output.status, Some(2), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(expected), "{arguments:?}: {}", output.stderr);
    }
    author.create_plugin("vip", "router");
    let output = author.plugboard(&["build", "--deploy", "nowhere"]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("nowhere (--deploy) is not a folder"), "{}", output.stderr);
    fs::create_dir_all(author.path("twin/src")).unwrap();
    for file in ["Cargo.toml", "src/lib.rs"] {
        fs::copy(author.path("vip").join(file), author.path("twin").join(file)).unwrap();
    }
    author.replace("twin/Cargo.toml", "name = \"vip\"", "name = \"vip\"\nautotests = false");
    let output = author.plugboard(&["build", "vip", "twin", "--deploy", "."]);
    assert_eq!(output.status, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("twin have the same plugin name"), "{}", output.stderr);
    // A deployment folder without a free number is rejected before the build.
    fs::create_dir(author.path("full")).unwrap();
    fs::write(author.path("full/99-last.wasm"), "").unwrap();
    let output = author.plugboard(&["build", "vip", "--deploy", "full"]);
    assert_eq!(output.status, Some(1), "{}", output.stderr);
    assert!(output.stderr.starts_with("failed    vip: no number is free"), "{}", output.stderr);
    fs::write(author.path("vip/Cargo.toml"), "[package\n").unwrap();
    let output = author.plugboard(&["build"]);
    assert_eq!(output.status, Some(1));
    assert!(output.stderr.contains("cargo cannot read "), "{}", output.stderr);
}

#[test]
fn new_plugin_contains_sdk_and_builds_outside_repository() {
    let author = AuthorFolder::new();
    let installed = InstalledProgram::new(&author);
    installed.create_plugin("away");
    let manifest = fs::read_to_string(author.path("away/Cargo.toml")).unwrap();
    let dependency = "plugboard-sdk = { path = \"vendor/plugboard-sdk\" }";
    assert!(manifest.contains(dependency), "{manifest}");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (path, content) in files(&author.path("away")) {
        let content = String::from_utf8(content).unwrap();
        assert!(!content.contains(path_str(repository)), "{}: {content}", path.display());
    }

    author.test_plugin("away");
    let folder = PluginFolder::new();
    let build = installed.plugboard(&["build", "away", "--deploy", path_str(folder.path())]);
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    assert!(build.stdout.contains("built     away: router, "), "{}", build.stdout);
    assert_eq!(entry_names(folder.path()), ["10-away.toml", "10-away.wasm"]);
}

#[test]
fn packaged_sdk_equals_embedded_one_and_builds_plugin() {
    let author = AuthorFolder::new();
    let archive = packaged_sdk();
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--gzip").arg("--file").arg(&archive);
    assert!(tar.arg("--directory").arg(author.path("")).status().unwrap().success());
    let package = archive.file_stem().unwrap().to_str().unwrap();
    InstalledProgram::new(&author).create_plugin("away");
    let (mut packaged, mut embedded) =
        (files(&author.path(package)), files(&author.path("away/vendor/plugboard-sdk")));
    // Cargo and `plugboard new` generate these files, so they differ.
    for name in [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"] {
        packaged.remove(Path::new(name));
        embedded.remove(Path::new(name));
    }
    let paths: Vec<&PathBuf> = packaged.keys().collect();
    assert_eq!(paths, embedded.keys().collect::<Vec<_>>());
    for (path, content) in &packaged {
        assert!(embedded[path] == *content, "{}", path.display());
    }

    let output = author.plugboard(&["new", "vip", "--sdk", package]);
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    // The package has no Cargo.lock for a plugin, and resolving new versions needs the network.
    fs::copy(author.path("away/Cargo.lock"), author.path("vip/Cargo.lock")).unwrap();
    let build = author.plugboard(&["build", "vip"]);
    assert_eq!(build.status, Some(0), "{}", build.stderr);
    assert!(build.stdout.contains("built     vip: router, "), "{}", build.stdout);
}
