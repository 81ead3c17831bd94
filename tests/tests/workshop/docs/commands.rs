//! Commands of the documents, page by page. Those of each machine of a page run in one shell,
//! in a sandbox.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use tests::{is_built, skip_or_fail_in_ci};

use super::answers::matches_answer;
use super::machine::Machine;
use super::not_run;
use super::page::{Block, Page, pages};
use super::sandbox::{Sandbox, missing_sandbox, write_stripped_program};

/// Programs that the commands, the fakes and the sandbox use.
const PROGRAMS: [&str; 12] = [
    "bash", "curl", "flock", "ip", "nsenter", "openssl", "python3", "setpriv", "sqlite3", "ss",
    "strip", "unshare",
];

/// Folder of the temporary files that cargo makes for these tests.
const TMP: &str = env!("CARGO_TARGET_TMPDIR");

/// Profile of the crates that `plugboard new` makes. With it, a crate that is made by hand shares
/// their built dependencies.
const TEMPLATE_PROFILE: [(&str, &str); 6] = [
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_LTO", "true"),
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "true"),
];

/// Sandboxes at the same time. Some of them wait for others, which build plugins.
const PARALLEL: usize = 8;

/// Page and machine whose commands run in one shell.
type Job<'a> = (&'a Page, Machine);

#[test]
fn documented_commands_work() {
    if let Some(reason) = missing_requirement() {
        skip_or_fail_in_ci(&format!("cannot run the documents' commands: {reason}"));
        return;
    }
    let program = Path::new(TMP).join("stripped-plugboard");
    write_stripped_program(&program);
    let pages = pages();
    let mut jobs = BTreeSet::new();
    for (nth, page) in pages.iter().enumerate() {
        // Those of authors build plugins, which takes longest.
        let has_commands = |block: &Block| !block.script().trim().is_empty();
        let blocks = page.blocks().into_iter().filter(has_commands);
        let machines = blocks.filter_map(|block| Machine::of(page, &block));
        jobs.extend(machines.map(|machine| (machine != Machine::Author, nth, machine)));
    }
    assert!(jobs.len() > 20, "only {} shells", jobs.len());
    let jobs = jobs.into_iter().map(|(_, nth, machine)| (&pages[nth], machine));
    let queue: Mutex<VecDeque<Job>> = Mutex::new(jobs.filter(|job| can_run(job.0)).collect());
    let (failures, authors) = (Mutex::new(Vec::new()), Mutex::new(()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let job = queue.lock().unwrap().pop_front();
                    let Some((page, machine)) = job else { break };
                    // Pages of authors build crates of the same name into the same folder.
                    let uses_cargo = page.name.starts_with("docs/guide/");
                    let is_exclusive = machine == Machine::Author && uses_cargo;
                    let _turn = is_exclusive.then(|| authors.lock().unwrap());
                    let start = Instant::now();
                    if let Err(failure) = run_page(page, machine, &program) {
                        failures.lock().unwrap().push(failure);
                    }
                    println!("{:.1?}: {} ({machine:?})", start.elapsed(), page.name);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Returns the program or permission that this machine lacks.
fn missing_requirement() -> Option<String> {
    let lacks = |name: &&&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
        !found.is_ok_and(|found| found.status.success())
    };
    if let Some(name) = PROGRAMS.iter().find(lacks) {
        return Some(format!("{name} is missing"));
    }
    let schemas = Path::new(TMP).parent().unwrap().join("schemas/bin/python3");
    if !schemas.exists() {
        return Some(format!("{} is missing; run `cargo xtask schemas`", schemas.display()));
    }
    missing_sandbox()
}

/// Returns whether the tools of a page's language are installed.
fn can_run(page: &Page) -> bool {
    let languages = [("plugins/python-", "python"), ("plugins/javascript-", "javascript")];
    let language = languages.iter().find(|(folder, _)| page.name.starts_with(folder));
    language.is_none_or(|(_, guest)| is_built(guest))
}

/// Runs the commands of a page on one machine, and compares their output with the documented
/// answers.
fn run_page(page: &Page, machine: Machine, program: &Path) -> Result<(), String> {
    let blocks = page.blocks();
    let mut script = machine.prepare(page);
    for (nth, block) in blocks.iter().enumerate() {
        let commands = machine.commands(page, block);
        if !commands.is_empty() {
            script += &format!("{{\n:\n{commands}}} > /out/{nth} 2> /out/{nth}.err\n");
        }
    }
    script += machine.check();
    let sandbox = Sandbox::new(&script);
    let status = sandbox.run(&environment(machine, program));
    if !status.success() {
        let last = (0..blocks.len()).rev().find(|nth| sandbox.has_output(&nth.to_string()));
        let output = |name: String| sandbox.output(&name);
        let (line, text) =
            last.map_or((0, "preparation"), |it| (blocks[it].line, &blocks[it].text));
        let last = last.map_or("installation".to_owned(), |nth| nth.to_string());
        let (stdout, stderr) = (output(last.clone()), output(format!("{last}.err")));
        let (shell, log) = (output("sandbox.log".into()), output("server.log".into()));
        return Err(format!(
            "{}:{line} ({machine:?}): {status}\n{text}\n{stdout}{stderr}{shell}\n{log}",
            page.name
        ));
    }
    compare_answers(page, machine, &sandbox)
}

/// Returns the environment variables of a machine.
fn environment(machine: Machine, program: &Path) -> Vec<(&'static str, String)> {
    let mut variables = vec![("DIST_PROGRAM", program.display().to_string())];
    if machine == Machine::Author {
        variables.extend(TEMPLATE_PROFILE.map(|(name, value)| (name, value.to_owned())));
    }
    variables
}

/// Compares the documented answers with the output of the `sh` blocks before them.
fn compare_answers(page: &Page, machine: Machine, sandbox: &Sandbox) -> Result<(), String> {
    let mut last_command = None;
    for (nth, block) in page.blocks().iter().enumerate() {
        match (block.language.as_str(), last_command) {
            ("sh", _) => last_command = (Machine::of(page, block) == Some(machine)).then_some(nth),
            ("json" | "text", Some(command)) if block.before.contains("answers") => {
                let actual = sandbox.output(&format!("{command}"));
                if !matches_answer(block, &actual) {
                    let stderr = sandbox.output(&format!("{command}.err"));
                    let (name, line) = (&page.name, block.line);
                    return Err(format!("{name}:{line}: the output differs:\n{actual}{stderr}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

impl Block {
    /// Returns the commands of a `sh` or `console` block as a script, without those that are
    /// not run.
    pub fn script(&self) -> String {
        match self.language.as_str() {
            "sh" => self.text.clone(),
            "console" => self
                .console_commands()
                .into_iter()
                .map(|command| match not_run::find(&command) {
                    Some(entry) => format!("{}\n", entry.instead),
                    None => command,
                })
                .collect(),
            _ => String::new(),
        }
    }
}

#[test]
fn console_blocks_have_prompts_and_valid_names() {
    let mut used = BTreeSet::new();
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "console") {
            let at = format!("{}:{}", page.name, block.line);
            assert!(block.text.starts_with("$ "), "{at}");
            for command in block.console_commands() {
                if let Some(entry) = not_run::find(&command) {
                    used.insert(entry.prefix);
                    not_run::check(&command).unwrap_or_else(|error| panic!("{at}: {error}"));
                }
            }
        }
    }
    for entry in &not_run::NOT_RUN {
        assert!(!entry.reason.is_empty());
        assert!(used.contains(entry.prefix), "no document has the command {}", entry.prefix);
    }
}
