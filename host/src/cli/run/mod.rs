//! `plugboard run`: one plugin, one document of a platform, and everything that
//! there is to see of it.

mod backtrace;
mod occasion;
mod outcome;
mod report;
mod values;

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

use self::occasion::{Occasion, Received};
use self::report::{Report, Turn};
use self::values::Values;
use super::{BAD_CONFIG, offline_configuration};
use crate::capability::http::{Answer, Script};
use crate::config::{Config, Flags};
use crate::engine::{Engine, Purpose};
use crate::event::Platform;
use crate::plugin::backtrace::Frame;
use crate::plugin::error::PluginError;
use crate::plugin::examine::Fault;
use crate::plugin::record::Recorder;
use crate::plugin::{Loader, Plugin, Sources};

/// Largest document that is read, in bytes: what the largest body of a platform may be.
const MAX_EVENT: u64 = 64 << 20;

/// What is said of a request that `--http` has no answer to.
const NOT_SCRIPTED: &str = "no answer to it is left in the file of --http";

/// What is said of any request.
const NOT_SENT: &str = "a run sends nothing by itself: write down answers for --http, or use \
                        --allow-http to send what the settings grant";

/// What is said when nobody can tell where a plugin trapped.
const NAMELESS: &str = "the file has no names of functions; `plugboard build --debug-names` keeps \
                        them, with files and lines";

/// Try a plugin on one event, and see what it does.
#[derive(clap::Args)]
#[command(after_help = "\
The event is the document that a platform posts: an event of AVR Core, or a document of BlackBox \
(a start is decided, a tool and a transfer are answered, of a report each event is told). All \
platforms are known here, whether they are configured or not.

STATE.json is an object with the plugin's values by key: text stands for itself, anything else \
for its JSON. MOCK.json is a list of answers: {\"method\", \"url\", \"status\", \"headers\", \
\"body\", \"times\"}, of which the last three may be left out. What the plugin's settings do not \
grant is refused in any case, as in service.

The exit status is 0 if the plugin answered (with whatever: a pass, a tool's own error), 1 if it \
failed, 2 if the command line makes no sense, and 78 if the event, the settings or another file \
cannot be read.")]
pub(super) struct Run {
    /// The plugin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the platform posts; `-` is standard input
    #[arg(long, value_name = "EVENT.json", default_value = "-")]
    event: PathBuf,
    /// Whose document it is, where the body does not tell: dsai
    #[arg(long, value_name = "NAME", value_parser = platform)]
    platform: Option<Platform>,
    /// The plugin's settings [default: the file of its name that ends with .toml]
    #[arg(long, value_name = "FILE.toml")]
    settings: Option<PathBuf>,
    /// The plugin's values before the event [default: none]
    #[arg(long, value_name = "STATE.json")]
    kv: Option<PathBuf>,
    /// Write the values after it back to the file of --kv, which need not be there
    #[arg(long, requires = "kv")]
    save: bool,
    /// Answers to the plugin's requests
    #[arg(long, value_name = "MOCK.json", conflicts_with = "allow_http")]
    http: Option<PathBuf>,
    /// Really send the plugin's requests
    #[arg(long)]
    allow_http: bool,
    /// The server's configuration, for its defaults and bounds [default: plugboard.toml, if it is
    /// there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Tell it as JSON
    #[arg(long)]
    json: bool,
}

fn platform(name: &str) -> Result<Platform, value::Error> {
    Platform::deserialize(name.into_deserializer())
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
        let flags = Flags { config: self.config.clone(), ..Flags::default() };
        let Some(config) = offline_configuration(flags) else {
            return ExitCode::from(BAD_CONFIG);
        };
        let inputs = match self.inputs(config) {
            Ok(inputs) => inputs,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                return ExitCode::from(BAD_CONFIG);
            }
        };
        let shown = play(inputs).and_then(|(report, values)| {
            if self.json {
                writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&report)?)?;
            } else {
                write!(io::stdout(), "{report}")?;
            }
            // Only what was seen is kept.
            if let (Some(file), true) = (&self.kv, self.save) {
                values::write(file, &values)?;
            }
            Ok(report)
        });
        match shown {
            Ok(report) if report.is_success() => ExitCode::SUCCESS,
            Ok(report) if report.has_bad_settings() => ExitCode::from(BAD_CONFIG),
            Ok(_) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("plugboard: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    /// Everything that is read before anything is run.
    fn inputs(&self, mut config: Config) -> anyhow::Result<Inputs> {
        // Whether a platform is served says nothing about what it posts.
        config.avr.enabled = true;
        config.blackbox.enabled = true;
        let sources = Sources::with(self.file.clone(), self.settings.clone())?;
        let body = read_event(&self.event)?;
        let received = Received::read(&config, &body, self.platform)
            .with_context(|| format!("{} is no event", shown(&self.event)))?;
        let values = match &self.kv {
            // It is there from the first run on.
            Some(file) if self.save && is_absent(file) => BTreeMap::new(),
            Some(file) => values::read(file)?,
            None => BTreeMap::new(),
        };
        let script = match &self.http {
            _ if self.allow_http => None,
            Some(file) => Some(Script::new(read_answers(file)?, NOT_SCRIPTED)),
            None => Some(Script::new(Vec::new(), NOT_SENT)),
        };
        Ok(Inputs { sources, config, received, values, script })
    }
}

/// What there is to work with.
struct Inputs {
    sources: Sources,
    config: Config,
    received: Received,
    values: BTreeMap<String, Vec<u8>>,
    /// None: requests are sent.
    script: Option<Script>,
}

/// Runs the plugin. What came of it, and every value that is there then.
fn play(inputs: Inputs) -> anyhow::Result<(Report, BTreeMap<String, Vec<u8>>)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tell(inputs))
}

async fn tell(inputs: Inputs) -> anyhow::Result<(Report, BTreeMap<String, Vec<u8>>)> {
    let Inputs { sources, config, received, values, script } = inputs;
    let engine = Engine::start(&config.engine, Purpose::Inspect)?;
    let recorder = Arc::new(Recorder::default());
    // Of one that cannot be told, examining it says so.
    let name = sources.name().unwrap_or_default();
    let mut kept = Values::start(&config, name, values).await?;
    let loader = Loader::new(engine, None, Some(kept.store()), &config)?;
    let loader = loader.with_recorder(Arc::clone(&recorder));
    let loader = match script {
        Some(script) => loader.with_script(Arc::new(script)),
        None => loader,
    };
    let mut examined = loader.examine(&sources).await;
    let mut turns = Vec::new();
    if let Some(plugin) = examined.plugin.take() {
        for occasion in received.occasions(&plugin) {
            let turn = turn(&plugin, &occasion, &recorder, &mut kept).await;
            let failed = turn.error.is_some();
            turns.push(turn);
            // As in service, where the later events of the call wait.
            if failed {
                break;
            }
        }
    }
    let (changes, now) = kept.changes().await?;
    kept.close().await;
    Ok((Report::new(examined, turns, changes), now))
}

async fn turn(
    plugin: &Plugin,
    occasion: &Occasion,
    recorder: &Recorder,
    kept: &mut Values,
) -> Turn {
    let mut notes = occasion.notes(plugin);
    let answer = match plugin.has(occasion.hook) {
        true => occasion.put(plugin).await,
        false => Err(PluginError::NotExported(occasion.hook)),
    };
    let record = recorder.take();
    kept.look_at(&record);
    let (outcome, error) = match answer {
        Ok(outcome) => {
            notes.extend(outcome.note(occasion.call()));
            (Some(outcome), None)
        }
        Err(error) => {
            notes.extend(advice(plugin, occasion, &error));
            if !record.backtrace.is_empty() && record.backtrace.iter().all(Frame::is_nameless) {
                notes.push(NAMELESS.to_owned());
            }
            (None, Some(Fault::from(&error)))
        }
    };
    Turn::new(occasion, outcome, error, notes, record)
}

/// What a failure has to do with being tried here.
fn advice(plugin: &Plugin, occasion: &Occasion, error: &PluginError) -> Option<String> {
    match error {
        PluginError::NotExported(_) => {
            let hooks: Vec<&str> = plugin.hooks().iter().map(|hook| hook.interface()).collect();
            Some(format!(
                "this event is for a plugin that exports {}; this one exports {}",
                occasion.hook.interface(),
                hooks.join(", ")
            ))
        }
        PluginError::Timeout(_) => Some(
            "computing takes up to three times as long here as in service, as instructions are \
             counted"
                .to_owned(),
        ),
        _ => None,
    }
}

fn read_event(file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = if is_stdin(file) {
        io::stdin().lock().take(MAX_EVENT + 1).read_to_end(&mut body)
    } else {
        File::open(file).and_then(|file| file.take(MAX_EVENT + 1).read_to_end(&mut body))
    };
    let name = shown(file);
    read.with_context(|| format!("cannot read the event from {name}"))?;
    ensure!(body.len() as u64 <= MAX_EVENT, "{name} has more than {MAX_EVENT} bytes");
    if body.trim_ascii().is_empty() {
        bail!("{name} is empty; expected the document that a platform posts");
    }
    Ok(body)
}

fn is_absent(file: &Path) -> bool {
    file.try_exists().is_ok_and(|is_there| !is_there)
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn shown(file: &Path) -> String {
    if is_stdin(file) { "standard input".to_owned() } else { file.display().to_string() }
}

fn read_answers(file: &Path) -> anyhow::Result<Vec<Answer>> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no list of answers, as in --help", file.display()))
}
