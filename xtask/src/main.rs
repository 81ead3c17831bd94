//! The repository's chores: `cargo xtask run | plugins | guests | languages | docs | test |
//! bench`.

mod architecture;
mod browser;
mod build;
mod command;
mod languages;
mod tools;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use command::{Result, cargo, say};

const USAGE: &str = "\
usage: cargo xtask <chore>

  run       set up everything and serve on 127.0.0.1:9000
  plugins   build the sample plugins into target/plugins/
  guests    build the fixture guests of the whole-system tests
  docs      make docs/reference/ from the code
  languages build the samples and fixtures in Python and JavaScript
  architecture check which crate depends on which
  test      run everything that must pass
  bench     measure against a bare server (needs wrk)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let chore = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match chore.as_str() {
        "run" => run(&rest),
        "plugins" => build::plugins(),
        "guests" => build::guests(),
        "docs" => docs(),
        "languages" => languages::build(),
        "architecture" => architecture::check(),
        "test" => test(),
        "bench" => bench(&rest),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("cargo xtask {chore}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where `run` serves.
const LISTEN: &str = "127.0.0.1:9000";

/// Serves the sample plugins, and plays a first call. What follows `run` goes to `plugboard serve`.
fn run(arguments: &[String]) -> Result {
    if arguments.is_empty() && TcpStream::connect(LISTEN).is_ok() {
        return Err(format!("{LISTEN} is taken: does another Plugboard run? End it first"));
    }
    build::plugins()?;
    build::host()?;
    let program = build::release().join("plugboard");
    let mut serve = command::program(&program);
    serve.args(["serve", "--plugins"]).arg(build::plugin_folder());
    serve.arg("--data").arg(build::data_folder());
    serve.args(["--listen", LISTEN]).args(arguments);
    let mut serving = command::start(serve)?;
    if arguments.is_empty() && serves(&mut serving) {
        say("\nA first call, as AVR Core would have it:\n");
        let mut simulate = command::program(&program);
        simulate.args(["simulate", &format!("http://{LISTEN}/events")]);
        // Whatever becomes of it, the server goes on.
        if let Err(error) = command::run(simulate) {
            say(&error);
        }
        say("\nTry in another terminal:\n\n  \
             curl -d @tests/fixtures/avr/call_initiated.json http://127.0.0.1:9000/events\n\n\
             and see it in a browser: http://127.0.0.1:9901/\n");
    }
    command::wait(serving)
}

/// Waits until the server answers. Not if it ended.
fn serves(serving: &mut command::Started) -> bool {
    while serving.is_running() {
        if TcpStream::connect(LISTEN).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Everything that must pass, the quick things first.
fn test() -> Result {
    command::run(cargo(["fmt", "--all", "--check"]))?;
    architecture::check()?;
    build::plugins()?;
    build::guests()?;
    languages::test()?;
    build::host()?;
    browser::prepare()?;
    tools::prepare_documents()?;
    command::run(cargo(
        "clippy --release --workspace --all-targets --all-features -- --deny warnings".split(' '),
    ))?;
    let mut documents = cargo("doc --release --workspace --no-deps".split(' '));
    documents.env("RUSTDOCFLAGS", "--deny warnings");
    command::run(documents)?;
    command::run(cargo(["test", "--release", "--workspace"]))
}

/// Makes the reference anew, which tests compare with the code.
fn docs() -> Result {
    let mut write = cargo("test --release --workspace --bin plugboard -- reference::".split(' '));
    write.env("UPDATE_EXPECT", "1");
    command::run(write)
}

/// Measures. What follows `bench` goes to the bench.
fn bench(arguments: &[String]) -> Result {
    build::plugins()?;
    build::guests()?;
    languages::build()?;
    build::host()?;
    let wrk = command::find_or_install("wrk", "the load generator")?;
    let mut bench = command::program(build::release().join("bench"));
    bench.arg("--wrk").arg(wrk).args(arguments);
    command::run(bench)
}

/// The repository's root.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
