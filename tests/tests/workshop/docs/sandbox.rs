//! Sandbox of the documents' commands: a private copy-on-write view of the machine, with its
//! own network and processes. `sandbox.sh` creates it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

use super::page::root;
use crate::authoring::isolate_build;

/// Time limit of one script, in seconds. A first build of a plugin takes minutes on a busy
/// machine.
const SCRIPT_TIMEOUT: &str = "900";

/// Sandbox with one script. Dropping it removes the script's output.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    /// Creates a sandbox with a script for bash.
    pub fn new(script: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let files = folder.path().join("files");
        fs::create_dir(&files).unwrap();
        // Services and containers have users of their own.
        fs::set_permissions(&files, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(files.join("script"), script).unwrap();
        Self { folder }
    }

    /// Runs the script to its end, with the environment of a plugin author and these variables.
    /// The end of the test ends it as well.
    pub fn run(&self, variables: &[(&str, String)]) -> ExitStatus {
        let is_root = rustix::process::geteuid().is_root();
        // Services and containers have several users, so the sandbox belongs to root.
        let mut command = if is_root { Command::new("env") } else { Command::new("sudo") };
        command.args(if is_root { &[][..] } else { &["--non-interactive", "env"] });
        command.arg("--ignore-environment");
        for (name, value) in author_environment().iter().chain(variables) {
            command.arg(format!("{name}={value}"));
        }
        command.args(["setpriv", "--pdeathsig", "KILL"]);
        command.args(["timeout", "--signal", "KILL", SCRIPT_TIMEOUT]);
        command.args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]);
        command.arg("--mount-proc");
        command.arg(root().join("tests/tests/workshop/docs/sandbox.sh"));
        command.arg(root()).arg(author_target()).arg(self.folder.path());
        let log = fs::File::create(self.path("sandbox.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.status().unwrap()
    }

    /// Returns a file that the script wrote below `/out`, or an empty text.
    pub fn output(&self, name: &str) -> String {
        fs::read(self.path(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns whether the script wrote this file below `/out`.
    pub fn has_output(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }
}

/// Returns the environment variables of all scripts.
fn author_environment() -> Vec<(&'static str, String)> {
    let variable = |name| std::env::var(name).ok();
    let home = variable("HOME").unwrap_or_else(|| "/root".to_owned());
    let folder = |name, default| variable(name).unwrap_or_else(|| format!("{home}/{default}"));
    let mut variables = vec![
        ("HOME", "/home/author".to_owned()),
        ("PATH", variable("PATH").unwrap()),
        ("CARGO_HOME", folder("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", folder("RUSTUP_HOME", ".rustup")),
        ("CARGO_TARGET_DIR", author_target().display().to_string()),
        ("CARGO_INCREMENTAL", "0".to_owned()),
        // The network of the sandbox is a loopback interface.
        ("CARGO_NET_OFFLINE", "true".to_owned()),
    ];
    let toolchain = variable("RUSTUP_TOOLCHAIN").map(|name| ("RUSTUP_TOOLCHAIN", name));
    variables.extend(toolchain);
    variables
}

/// Returns the target folder of the builds of plugin authors.
fn author_target() -> PathBuf {
    let mut cargo = Command::new("cargo");
    isolate_build(&mut cargo);
    let mut variables = cargo.get_envs();
    let target = variables.find(|(name, _)| *name == "CARGO_TARGET_DIR");
    target.and_then(|(_, value)| value).unwrap().into()
}

/// Returns why this machine has no sandboxes, if so.
pub fn missing_sandbox() -> Option<String> {
    fs::create_dir_all(author_target()).unwrap();
    let sandbox = Sandbox::new("true");
    let status = sandbox.run(&[]);
    (!status.success()).then(|| format!("{status}\n{}", sandbox.output("sandbox.log")))
}

/// Writes a copy of the program without symbols, as the profile `dist` builds it.
pub fn write_stripped_program(to: &Path) {
    let strip = Command::new("strip").arg("-o").arg(to).arg(tests::program()).status().unwrap();
    assert!(strip.success());
}

#[test]
fn sandbox_keeps_writes_and_network_inside() {
    if let Some(reason) = missing_sandbox() {
        tests::skip_or_fail_in_ci(&format!("cannot create a sandbox: {reason}"));
        return;
    }
    let marker = format!("plugboard-sandbox-{}", std::process::id());
    let folders = ["/etc", "/usr/local/bin", "/var/lib", "/tmp", "/run", "/home/author/plugboard"];
    let mut script = "set -e\n".to_owned();
    for folder in folders {
        script += &format!("echo {marker} > {folder}/{marker}\n");
    }
    script += "! getent hosts example.com\ncat /home/author/plugboard/README.md > /out/readme\n";
    let sandbox = Sandbox::new(&script);
    assert!(sandbox.run(&[]).success(), "{}", sandbox.output("sandbox.log"));
    for folder in folders.iter().map(Path::new).chain([&*root()]) {
        assert!(!folder.join(&marker).exists(), "{}", folder.display());
    }
    assert!(sandbox.output("readme").starts_with("# Plugboard\n"));
}
