//! Tasks of this repository: `cargo xtask run | plugins | guests | languages | docs | style |
//! architecture | schemas | packages | test | bench`.

mod architecture;
mod browser;
mod build;
mod command;
mod features;
mod languages;
mod packages;
mod schemas;
mod steps;
mod style;
mod tools;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use command::{Result, cargo, say};
use steps::Steps;

const USAGE: &str = "\
usage: cargo xtask <task>

  run       build the server and the sample plugins, serve on 127.0.0.1:9000, play one call
  test      run all checks and tests
  bench     measure beside a bare HTTP handler; `bench --help` lists the options
  plugins   build the sample plugins into target/plugins/
  guests    build the fixture guests of the whole-system tests
  languages build the samples and fixtures in Python and JavaScript
  docs      write docs/reference/ from the code
  architecture  check which crate depends on which
  style     check words, comments and test names; `style --list [PATH...]` prints each place
  schemas   check workflows, compose file and Kubernetes manifests against their schemas
  packages  package the SDK and the contract into target/package/, and check their files";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match task.as_str() {
        "run" => run(&rest),
        "plugins" => build::plugins(),
        "guests" => build::guests(),
        "docs" => docs(),
        "languages" => languages::build(),
        "architecture" => architecture::check(),
        "style" => style::check(&root(), &rest),
        "schemas" => schemas::check(),
        "packages" => packages::check(),
        "test" => test(),
        "bench" => bench(&rest),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo xtask {task}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Address on which `run` serves.
const LISTEN: &str = "127.0.0.1:9000";

/// Time of the first build of `run` on one core, in minutes: twice what a slow virtual machine of
/// two cores takes. A desktop computer needs half of it.
const FIRST_RUN_MINUTES: usize = 26;
/// As [`FIRST_RUN_MINUTES`], of all of `test` without an earlier `run`.
const FIRST_TEST_MINUTES: usize = 72;

/// Serves the sample plugins, and simulates a first call. Further arguments go to `plugboard
/// serve`.
fn run(arguments: &[String]) -> Result {
    if arguments.is_empty() && TcpStream::connect(LISTEN).is_ok() {
        return Err(format!("{LISTEN} is in use; stop the other server first"));
    }
    let program = build::release().join("plugboard");
    if !program.exists() {
        say(&format!(
            "Building the server and the sample plugins. The first build takes {}; later \
             ones take seconds.",
            minutes(FIRST_RUN_MINUTES)
        ));
    }
    build::server_and_plugins()?;
    let mut serve = command::program(&program);
    serve.args(["serve", "--plugins"]).arg(build::plugin_folder());
    serve.arg("--data").arg(build::data_folder());
    serve.args(["--listen", LISTEN]).args(arguments);
    let mut serving = command::start(serve)?;
    if arguments.is_empty() && is_listening(&mut serving) {
        say("\nA first call, as AVR Core would post it:\n");
        let mut simulate = command::program(&program);
        simulate.args(["simulate", &format!("http://{LISTEN}/events")]);
        // The server continues, whatever the result is.
        if let Err(error) = command::run(simulate) {
            say(&error);
        }
        say("\nTry in another terminal:\n\n  \
             curl -d @tests/fixtures/avr/call_initiated.json http://127.0.0.1:9000/events\n\n\
             and see the decision in a browser: http://127.0.0.1:9901/\n");
    }
    command::wait(serving)
}

/// Returns an estimate for a first build that takes this long on one core.
fn minutes(on_one_core: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Some crates of the build wait for others, so further cores are idle.
    let slow = on_one_core.div_ceil(cores.min(6));
    format!("{} to {slow} minutes on this machine", slow.div_ceil(2))
}

/// Waits until the server listens. Returns false if it ends before.
fn is_listening(serving: &mut command::Started) -> bool {
    while serving.is_running() {
        if TcpStream::connect(LISTEN).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Runs all checks and tests, the quick ones first.
fn test() -> Result {
    if !build::release().join("deps").exists() {
        say(&format!("The first run of all tests takes {}.", minutes(FIRST_TEST_MINUTES)));
    }
    let mut steps = Steps::default();
    // Checks of the sources and of the dependency graph, before anything is built.
    steps.run("formatting", || command::run(cargo(["fmt", "--all", "--check"])))?;
    steps.run("style", || style::check(&root(), &[]))?;
    steps.run("dependencies between crates", architecture::check)?;
    steps.run("features of third-party crates", features::check)?;
    steps.run("workflows, compose and manifests", schemas::check)?;
    steps.run("packages of the SDK and the contract", packages::check)?;

    steps.run("sample plugins and fixture guests", || {
        build::plugins()?;
        build::guests()
    })?;
    steps.run("plugins in Python and JavaScript", languages::test)?;
    steps.run("programs", build::programs)?;
    steps.run("tools of the tests", || {
        browser::prepare()?;
        tools::prepare_documents()?;
        tools::prepare_bench()
    })?;
    // Clippy and rustdoc take the metadata of the same dependencies: one profile for both
    // checks them once.
    steps.run("clippy", || {
        let clippy = "clippy --release --workspace --all-targets --all-features";
        command::run(cargo(clippy.split(' ').chain(["--", "--deny", "warnings"])))
    })?;
    steps.run("documentation", || {
        let mut documentation = cargo("doc --release --workspace --no-deps".split(' '));
        documentation.env("RUSTDOCFLAGS", "--deny warnings");
        command::run(documentation)
    })?;
    steps.run("building the tests", || {
        command::run(cargo(["test", "--release", "--workspace", "--no-run"]))
    })?;
    steps.run("tests", || command::run(cargo(["test", "--release", "--workspace"])))?;
    steps.report();
    Ok(())
}

/// Writes the reference, which tests compare with the code.
fn docs() -> Result {
    let tests = "test --release --workspace --bin plugboard -- reference::";
    let mut write = cargo(tests.split(' '));
    write.env("UPDATE_EXPECT", "1");
    command::run(write)
}

/// Measures the programs as they are packaged. Further arguments go to the bench.
fn bench(arguments: &[String]) -> Result {
    let wrk = tools::wrk()?;
    build::plugins()?;
    build::guests()?;
    languages::build()?;
    build::packaged()?;
    let mut bench = command::program(build::dist().join("bench"));
    bench.arg("--wrk").arg(wrk).args(arguments);
    command::run(bench)
}

/// Returns the root directory of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
