//! `plugboard run`: runs one plugin on one document of a platform, and reports each step.
//!
//! It differs from the server in three ways. The engine inspects
//! ([`Purpose::Inspect`](plugboard_runtime::engine::Purpose)): it counts instructions, and traps
//! name file and line. The store is a new file in a temporary folder. HTTP requests are sent only
//! with `--allow-http`, or answered from a file (`--http-mock`).

mod backtrace;
mod invocation;
mod kv_state;
mod outcome;
mod report;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::{IntoDeserializer, value};
use tokio::runtime;

use self::invocation::{HookInvocation, ReceivedRequest};
use self::kv_state::KvState;
use self::report::{InvocationReport, RunReport};
use super::exit_status::EXIT_BAD_CONFIG;
use super::load_config::load_offline_configuration;
use plugboard_config::{Config, Flags};
use plugboard_core::platforms::Platform;
use plugboard_egress::{HttpMock, MockResponse};
use plugboard_runtime::engine::{Engine, Purpose};
use plugboard_runtime::plugin::backtrace::Frame;
use plugboard_runtime::plugin::error::CallError;
use plugboard_runtime::plugin::examine::ReportedError;
use plugboard_runtime::plugin::recorder::Recorder;
use plugboard_runtime::plugin::{Loader, Plugin, PluginFiles};

/// Maximum size of the document in bytes: the highest possible body limit of a platform.
const MAX_EVENT_BYTES: u64 = 64 << 20;

/// Hint for a request that `--http-mock` has no answer to.
const MOCK_EXHAUSTED_HINT: &str = "the file of --http-mock has no further answer to this request";

/// Hint for a request without `--http-mock` and `--allow-http`.
const HTTP_DISABLED_HINT: &str = "a run sends no requests: give answers with --http-mock, or use \
                                  --allow-http to send the requests that the settings grant";

/// Hint for a backtrace without names.
const NO_FUNCTION_NAMES_HINT: &str = "the file has no function names; `plugboard build \
                                      --debug-names` keeps them, with files and lines";

/// Run a plugin on one event and report each step.
#[derive(clap::Args)]
#[command(after_help = "\
The event is the document that a platform posts: an event of AVR Core, or a document of \
BlackBox. A start runs the router, a tool call and a transfer run their hooks, and each event of a \
report runs the observer. All platforms are available, also those that the configuration disables.

STATE.json is an object with the plugin's values by key: a string is the value itself, anything \
else is stored as its JSON. MOCK.json is a list of answers: {\"method\", \"url\", \"status\", \
\"headers\", \"body\", \"times\"}; the last three are optional. Requests that the plugin's \
settings do not grant are rejected, as in the server.

The exit status is 0 if the plugin answered (also with a pass or a tool's own error), 1 if it \
failed, 2 if the command line is invalid, and 78 if the event, the settings or another file cannot \
be read.")]
pub(super) struct RunCommand {
    /// Plugin to run
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Document that the platform posts; `-` is standard input
    #[arg(long, value_name = "EVENT.json", default_value = "-")]
    event: PathBuf,
    /// Platform of the document, if the body does not determine it: dsai
    #[arg(long, value_name = "NAME", value_parser = platform)]
    platform: Option<Platform>,
    /// Settings of the plugin [default: the file of the same name with .toml]
    #[arg(long, value_name = "FILE.toml")]
    settings: Option<PathBuf>,
    /// Values of the plugin before the event [default: none]
    #[arg(long, value_name = "STATE.json")]
    kv: Option<PathBuf>,
    /// Write the values after the event to the file of --kv, which is created if it is missing
    #[arg(long, requires = "kv")]
    save: bool,
    /// Answers to the plugin's HTTP requests
    #[arg(long, value_name = "MOCK.json", conflicts_with = "allow_http")]
    http_mock: Option<PathBuf>,
    /// Send the plugin's HTTP requests
    #[arg(long)]
    allow_http: bool,
    /// Configuration of the server, for its defaults and limits [default: plugboard.toml, if it
    /// exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn platform(name: &str) -> Result<Platform, value::Error> {
    Platform::deserialize(name.into_deserializer())
}

impl RunCommand {
    pub(super) fn run(self) -> ExitCode {
        let flags = Flags { config: self.config.clone(), ..Flags::default() };
        let Ok(config) = load_offline_configuration(flags) else {
            return ExitCode::from(EXIT_BAD_CONFIG);
        };
        let inputs = match self.read_inputs(config) {
            Ok(inputs) => inputs,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                return ExitCode::from(EXIT_BAD_CONFIG);
            }
        };
        let result = run_plugin(inputs).and_then(|(report, values)| {
            if self.json {
                writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
            } else {
                write!(io::stdout(), "{report}")?;
            }
            // The values are saved only after the report has been printed.
            if let (Some(file), true) = (&self.kv, self.save) {
                kv_state::write_values(file, &values)?;
            }
            Ok(report)
        });
        match result {
            Ok(report) if report.is_success() => ExitCode::SUCCESS,
            Ok(report) if report.has_bad_settings() => ExitCode::from(EXIT_BAD_CONFIG),
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    /// Reads all inputs before the run.
    fn read_inputs(&self, mut config: Config) -> anyhow::Result<RunInputs> {
        // Documents of platforms that the configuration disables are accepted too.
        config.enable_all_platforms();
        let sources = PluginFiles::with_settings(self.file.clone(), self.settings.clone())
            .map_err(anyhow::Error::msg)?;
        let body = read_event(&self.event)?;
        let received = ReceivedRequest::read(&config, &body, self.platform)
            .with_context(|| format!("{} is not a valid event", input_name(&self.event)))?;
        let kv_values = match &self.kv {
            // The first run with --save creates the file.
            Some(file) if self.save && is_missing(file) => BTreeMap::new(),
            Some(file) => kv_state::read_values(file)?,
            None => BTreeMap::new(),
        };
        let http_mock = match &self.http_mock {
            _ if self.allow_http => None,
            Some(file) => Some(HttpMock::new(read_mock_responses(file)?, MOCK_EXHAUSTED_HINT)),
            None => Some(HttpMock::new(Vec::new(), HTTP_DISABLED_HINT)),
        };
        Ok(RunInputs { sources, config, received, values: kv_values, http_mock })
    }
}

/// Inputs of a run.
struct RunInputs {
    sources: PluginFiles,
    config: Config,
    received: ReceivedRequest,
    values: BTreeMap<String, Vec<u8>>,
    /// None: the requests are sent.
    http_mock: Option<HttpMock>,
}

/// Runs the plugin. Returns the report, and all values after the run.
fn run_plugin(inputs: RunInputs) -> anyhow::Result<(RunReport, BTreeMap<String, Vec<u8>>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_plugin_async(inputs))
}

async fn run_plugin_async(
    inputs: RunInputs,
) -> anyhow::Result<(RunReport, BTreeMap<String, Vec<u8>>)> {
    let RunInputs { sources, config, received, values, http_mock: script } = inputs;
    let engine = Engine::start(&config.engine, Purpose::Inspect)?;
    let recorder = Arc::new(Recorder::default());
    // An invalid name is reported by `examine`.
    let name = sources.name().unwrap_or_default();
    let mut kv_state = KvState::start(&config, name, values).await?;
    let loader = Loader::new(engine, None, Some(kv_state.store()), &config)?;
    let loader = loader.with_recorder(Arc::clone(&recorder));
    let loader = match script {
        Some(script) => loader.with_script(Arc::new(script)),
        None => loader,
    };
    let mut plugin_report = loader.examine(&sources).await;
    let mut invocations = Vec::new();
    if let Some(plugin) = plugin_report.plugin.take() {
        for invocation in received.into_invocations(&plugin) {
            let invocation_report = invoke(&plugin, &invocation, &recorder, &mut kv_state).await;
            let failed = invocation_report.error.is_some();
            invocations.push(invocation_report);
            // The server behaves in the same way: the later events of the call wait.
            if failed {
                break;
            }
        }
    }
    let (changes, values_after) = kv_state.changes().await?;
    kv_state.close().await;
    Ok((RunReport::new(plugin_report, invocations, changes), values_after))
}

async fn invoke(
    plugin: &Plugin,
    invocation: &HookInvocation,
    recorder: &Recorder,
    kv_state: &mut KvState,
) -> InvocationReport {
    let mut notes = invocation.service_notes(plugin);
    let result = match plugin.has_hook(invocation.hook) {
        true => invocation.invoke(plugin).await,
        false => Err(CallError::NotExported(invocation.hook)),
    };
    let recording = recorder.take();
    kv_state.record_writes(&recording);
    let (outcome, error) = match result {
        Ok(outcome) => {
            notes.extend(outcome.platform_note(invocation.call()));
            (Some(outcome), None)
        }
        Err(error) => {
            notes.extend(failure_hint(plugin, invocation, &error));
            if !recording.backtrace.is_empty() && recording.backtrace.iter().all(Frame::is_nameless)
            {
                notes.push(NO_FUNCTION_NAMES_HINT.to_owned());
            }
            (None, Some(ReportedError::from(&error)))
        }
    };
    InvocationReport::new(invocation, outcome, error, notes, recording)
}

/// Returns a note on how a failure relates to the run.
fn failure_hint(plugin: &Plugin, invocation: &HookInvocation, error: &CallError) -> Option<String> {
    match error {
        CallError::NotExported(_) => {
            let hooks: Vec<&str> = plugin.hooks().iter().map(|hook| hook.interface()).collect();
            Some(format!(
                "this event needs a plugin that exports {}; this plugin exports {}",
                invocation.hook.interface(),
                hooks.join(", ")
            ))
        }
        CallError::Timeout(_) => Some(
            "code runs up to three times slower here than in the server, because instructions are \
             counted"
                .to_owned(),
        ),
        _ => None,
    }
}

fn read_event(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = if is_stdin(file) {
        io::stdin().lock().take(MAX_EVENT_BYTES + 1).read_to_end(&mut body)
    } else {
        File::open(file).and_then(|file| file.take(MAX_EVENT_BYTES + 1).read_to_end(&mut body))
    };
    let name = input_name(file);
    read.with_context(|| format!("cannot read the event from {name}"))?;
    ensure!(body.len() as u64 <= MAX_EVENT_BYTES, "{name} has more than {MAX_EVENT_BYTES} bytes");
    if body.trim_ascii().is_empty() {
        bail!("{name} is empty; expected the document that a platform posts");
    }
    Ok(body)
}

fn is_missing(file: &Path) -> bool {
    file.try_exists().is_ok_and(|is_there| !is_there)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn input_name(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn read_mock_responses(file: &Path) -> anyhow::Result<Vec<MockResponse>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is not a list of answers as --help describes", file.display()))
}
