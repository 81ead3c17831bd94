//! Plugins in other languages than Rust: installs their tools below `target/`,
//! from PyPI and npm, and builds the samples and the fixture guests of the
//! whole-system tests. Where a tool cannot be had, its language is left out, and
//! the tests skip it; but not on a machine of continuous integration (`CI`), where
//! everything has to be tested.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::build::{deploy, plugin_folder, target};
use crate::command::{self, Result, output, program, say};
use crate::root;

/// What a router may import and export, in `wit/`.
const WORLD: &str = "router-plugin";

/// The oldest Node.js that the tools work with.
const NODE: u32 = 20;

/// The samples and their places in the chain: after those that are in Rust.
const PYTHON: (&str, &str) = ("90", "python-languages");
/// As [`PYTHON`].
const JAVASCRIPT: (&str, &str) = ("95", "javascript-skills");

/// Builds what can be built.
pub fn build() -> Result {
    skipping("Python", Python::install())?.map_or(Ok(()), |python| python.build())?;
    skipping("JavaScript", JavaScript::install())?.map_or(Ok(()), |javascript| javascript.build())
}

/// The same, and runs the samples' own tests.
pub fn test() -> Result {
    if let Some(python) = skipping("Python", Python::install())? {
        python.test()?;
        python.build()?;
    }
    if let Some(javascript) = skipping("JavaScript", JavaScript::install())? {
        javascript.test()?;
        javascript.build()?;
    }
    Ok(())
}

/// Whether a language's tools are there. That they are not is told, and an error
/// only in continuous integration.
fn skipping<T>(language: &str, installed: Result<T>) -> Result<Option<T>> {
    match installed {
        Ok(tools) => Ok(Some(tools)),
        Err(why) if std::env::var_os("CI").is_some() => {
            Err(format!("plugins in {language} cannot be tested: {why}"))
        }
        Err(why) => {
            say(&format!("SKIPPED: plugins in {language}: {why}"));
            Ok(None)
        }
    }
}

/// componentize-py in a virtual environment.
struct Python {
    environment: PathBuf,
}

impl Python {
    fn install() -> Result<Self> {
        let python = Self { environment: target().join("python") };
        let inputs = [Self::requirements()];
        let made = &python.environment;
        Stamp::new("python-tools", &inputs, made)?.unless_made(|| python.make_environment())?;
        Ok(python)
    }

    fn make_environment(&self) -> Result {
        const VENV: &str = "is python3-venv missing? apt-get install python3-venv";
        let Some(python) = command::find("python3") else {
            return Err("python3 is missing; apt-get install python3 python3-venv".to_owned());
        };
        // From another version of Python, or half of one.
        remove(&self.environment)?;
        let mut venv = program(python);
        venv.args(["-m", "venv"]).arg(&self.environment);
        command::run(venv).map_err(|error| format!("{error}; {VENV}"))?;
        let mut pip = program(self.environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        pip.arg(Self::requirements());
        command::run(pip)
    }

    fn componentize_py(&self) -> std::process::Command {
        let mut tool = program(self.environment.join("bin/componentize-py"));
        // Otherwise it takes modules from whatever Python is in the path.
        tool.env("VIRTUAL_ENV", &self.environment);
        tool.args(["--quiet", "--wit-path", "wit", "--world", WORLD]);
        tool
    }

    fn build(&self) -> Result {
        let folder = sources(PYTHON);
        let sample = self.environment.join("python-languages.wasm");
        self.component(&folder, "languages", &sample)?;
        deploy_sample(PYTHON, &sample)?;
        let guest = self.environment.join("guest.wasm");
        self.component(&guests(), "python", &guest)?;
        deploy(&guest, &target().join("guests/python.wasm"))
    }

    /// Makes a component of a module.
    fn component(&self, folder: &Path, module: &str, to: &Path) -> Result {
        let inputs =
            [folder.join(format!("{module}.py")), root().join("wit"), Self::requirements()];
        Stamp::new(module, &inputs, to)?.unless_made(|| {
            let mut tool = self.componentize_py();
            tool.args(["componentize", "--python-path"]).arg(folder);
            tool.arg(module).arg("--output").arg(to);
            command::run(tool)
        })
    }

    /// Which version of the tool is installed.
    fn requirements() -> PathBuf {
        sources(PYTHON).join("requirements.txt")
    }

    fn test(&self) -> Result {
        let bindings = self.environment.join("bindings");
        remove(&bindings)?;
        let mut tool = self.componentize_py();
        tool.arg("bindings").arg(&bindings);
        command::run(tool)?;
        let mut tests = program(self.environment.join("bin/python"));
        tests.args(["-B", "-m", "unittest"]).env("PYTHONPATH", &bindings);
        tests.current_dir(sources(PYTHON));
        command::run(tests)
    }
}

/// componentize-qjs in a copy of the sample, so that `node_modules` is not in the
/// repository.
struct JavaScript {
    copy: PathBuf,
}

impl JavaScript {
    fn install() -> Result<Self> {
        let missing =
            format!("install Node.js {NODE} or later, with npm: apt-get install nodejs npm");
        for name in ["node", "npm"] {
            command::find(name).ok_or_else(|| format!("{name} is missing; {missing}"))?;
        }
        let mut node = program("node");
        node.arg("--version");
        let version = output(node)?;
        let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
        if major.parse::<u32>().is_ok_and(|major| major < NODE) {
            return Err(format!("this is Node.js {}; {missing}", version.trim()));
        }
        let copy = target().join("javascript");
        let locks = ["package.json", "package-lock.json"];
        for file in locks {
            deploy(&sources(JAVASCRIPT).join(file), &copy.join(file))?;
        }
        let inputs = locks.map(|file| copy.join(file));
        let modules = copy.join("node_modules");
        Stamp::new("javascript-tools", &inputs, &modules)?.unless_made(|| {
            let mut npm = program("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]);
            npm.current_dir(&copy);
            command::run(npm)
        })?;
        let javascript = Self { copy };
        javascript.refresh()?;
        Ok(javascript)
    }

    /// Copies what may have changed.
    fn refresh(&self) -> Result {
        let from = sources(JAVASCRIPT);
        for file in files(&from)? {
            let Ok(path) = file.strip_prefix(&from) else { continue };
            // Of an author who tried it in place.
            if !path.starts_with("node_modules") {
                deploy(&file, &self.copy.join(path))?;
            }
        }
        deploy(&guests().join("javascript.js"), &self.copy.join("guest/javascript.js"))
    }

    fn build(&self) -> Result {
        let sample = self.copy.join("javascript-skills.wasm");
        self.component("plugin.js", &["candidates.js", "failures.js"], &sample)?;
        deploy_sample(JAVASCRIPT, &sample)?;
        let guest = self.copy.join("guest.wasm");
        self.component("guest/javascript.js", &[], &guest)?;
        deploy(&guest, &target().join("guests/javascript.wasm"))
    }

    /// Makes a component of a module and those that it imports.
    fn component(&self, module: &str, imported: &[&str], to: &Path) -> Result {
        let tools = ["build.mjs", "package-lock.json", module];
        let mut inputs: Vec<PathBuf> =
            tools.iter().chain(imported).map(|file| self.copy.join(file)).collect();
        inputs.push(root().join("wit"));
        Stamp::new(&module.replace('/', "-"), &inputs, to)?.unless_made(|| {
            let mut node = program("node");
            node.args(["build.mjs", module, "--wit"]).arg(root().join("wit"));
            node.arg("--out").arg(to).current_dir(&self.copy);
            command::run(node)
        })
    }

    fn test(&self) -> Result {
        let mut npm = program("npm");
        npm.args(["test", "--silent"]).current_dir(&self.copy);
        command::run(npm)
    }
}

/// What something was made of, so that it is only made anew when that has changed.
struct Stamp<'a> {
    file: PathBuf,
    digest: String,
    made: &'a Path,
}

impl<'a> Stamp<'a> {
    /// Of these files and folders, for a file or folder that is made of them.
    fn new(name: &str, inputs: &[PathBuf], made: &'a Path) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        for input in inputs {
            for file in files(input)? {
                file.hash(&mut hasher);
                read(&file)?.hash(&mut hasher);
            }
        }
        let file = target().join("stamps").join(name);
        Ok(Self { file, digest: format!("{:016x}", hasher.finish()), made })
    }

    /// Makes it, unless it was made of the same.
    fn unless_made(&self, make: impl FnOnce() -> Result) -> Result {
        let same = fs::read_to_string(&self.file).is_ok_and(|digest| digest == self.digest);
        if same && self.made.exists() {
            return Ok(());
        }
        make()?;
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&self.file, &self.digest))
            .map_err(|error| format!("cannot write {}: {error}", self.file.display()))
    }
}

/// Where a sample's sources are.
fn sources((_, name): (&str, &str)) -> PathBuf {
    root().join("plugins").join(name)
}

/// Where the fixture guests' sources are.
fn guests() -> PathBuf {
    root().join("tests/guests/languages")
}

/// Puts a sample among the others, with its settings.
fn deploy_sample((order, name): (&str, &str), component: &Path) -> Result {
    let deployed = plugin_folder().join(format!("{order}-{name}"));
    deploy(
        &sources((order, name)).join(name).with_extension("toml"),
        &deployed.with_extension("toml"),
    )?;
    deploy(component, &deployed.with_extension("wasm"))
}

/// The file itself, or all files in a folder and those within it, in their order.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries =
        fs::read_dir(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        all.extend(files(&path)?);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}
