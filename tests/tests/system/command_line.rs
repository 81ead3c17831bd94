//! Command line: reports of `check`, and errors of `serve` at start.

use std::path::Path;
use std::process::{Command, Output};

use tests::{PluginFolder, ROUTING_GUEST, program};

fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder).env_clear().envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn check_reports_state_of_every_plugin() {
    let folder = PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-core", "core-module")
        .with_guest("30-typo", ROUTING_GUEST)
        .with_settings("30-typo", "\n[limits]\ntimeuot = '1s'\n")
        .with_guest("40-off", "traps")
        .with_settings("40-off", "enabled = false\n")
        .with_guest("50-greedy", ROUTING_GUEST)
        .with_settings("50-greedy", "[limits]\nmemory = '8GiB'\n")
        .with_settings("60-orphan", "enabled = true\n");
    let (status, output) = run(folder.path(), &["check", "--plugins", "."], &[]);
    assert_eq!(status, Some(1), "{output}");
    for line in [
        "ok        10-good: router, ",
        "disabled  40-off\n",
        "broken    20-core: the file is a core module, not a component; build for wasm32-wasip2",
        "broken    30-typo: ./30-typo.toml:3: unknown field `timeuot`",
        "; did you mean `timeout`?",
        "broken    50-greedy: limits.memory is 8589934592 bytes; the server's engine.max_memory is",
        "orphan    ./60-orphan.toml: settings without a plugin of that name",
        "1 good, 3 broken",
    ] {
        assert!(output.contains(line), "{line:?} is not in:\n{output}");
    }
    let good = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    assert_eq!(run(good.path(), &["check", "--plugins", "."], &[]).0, Some(0));
}

#[test]
fn invalid_configuration_exits_with_status_78() {
    let folder = PluginFolder::new();
    let assert_rejected = |arguments: &[&str], environment: &[(&str, &str)], expected: &str| {
        let (status, output) = run(folder.path(), arguments, environment);
        assert_eq!(status, Some(78), "{output}");
        assert!(output.contains(expected), "{expected:?} is not in:\n{output}");
    };
    assert_rejected(&["serve", "--listen", "0.0.0.0:0"], &[], "one platform has no secret");
    assert_rejected(&["serve", "--admin", "0.0.0.0:0"], &[], "admin_token is not set");
    assert_rejected(&["serve", "--config", "nowhere.toml"], &[], "cannot read nowhere.toml");
    assert_rejected(
        &["check"],
        &[("PLUGBOARD_LIMITS_DECISION_TIMEOUT", "2")],
        "PLUGBOARD_LIMITS_DECISION_TIMEOUT",
    );
    std::fs::write(folder.path().join("plugboard.toml"), "plugin = 'x'\n").unwrap();
    let expected = "plugboard.toml:1: unknown field `plugin`";
    assert_rejected(&["check"], &[], expected);
    assert_rejected(&["check"], &[], "did you mean `plugins`?");
    assert_rejected(&["serve", "--config", "plugboard.toml"], &[], expected);
}

#[test]
fn missing_folder_and_used_address_are_named() {
    let folder = PluginFolder::new();
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let (status, output) =
        run(folder.path(), &[&["serve", "--plugins", "nowhere"][..], &ports].concat(), &[]);
    assert_eq!(status, Some(1));
    assert!(output.contains("cannot read the plugin folder nowhere"), "{output}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (status, output) = run(
        folder.path(),
        &["serve", "--plugins", ".", "--listen", &address, "--admin", "127.0.0.1:0"],
        &[],
    );
    assert_eq!(status, Some(1));
    assert!(output.contains(&format!("cannot listen on {address} (listen)")), "{output}");
}
