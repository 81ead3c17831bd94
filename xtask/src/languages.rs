//! Plugins in other languages than Rust: installs their tools below `target/`,
//! from PyPI and npm, and builds the samples and the fixture guests of the
//! whole-system tests. Where a tool cannot be had, its language is left out, and
//! the tests skip it; but not on a machine of continuous integration (`CI`), where
//! everything has to be tested.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::build::{deploy, plugin_folder, target};
use crate::command::{self, Result, program};
use crate::root;
use crate::tools::{self, Stamp, files, remove, skipping};

/// What a router may import and export, in `wit/`.
const WORLD: &str = "router-plugin";

/// The samples and their places in the chain: after those that are in Rust.
const PYTHON: (&str, &str) = ("80", "python-languages");
/// As [`PYTHON`].
const JAVASCRIPT: (&str, &str) = ("85", "javascript-skills");

/// What cannot be tested without Python.
const PYTHON_PLUGINS: &str = "plugins in Python";
/// As [`PYTHON_PLUGINS`].
const JAVASCRIPT_PLUGINS: &str = "plugins in JavaScript";

/// Builds what can be built.
pub fn build() -> Result {
    skipping(PYTHON_PLUGINS, Python::install())?.map_or(Ok(()), |python| python.build())?;
    skipping(JAVASCRIPT_PLUGINS, JavaScript::install())?
        .map_or(Ok(()), |javascript| javascript.build())
}

/// The same, and runs the samples' own tests.
pub fn test() -> Result {
    if let Some(python) = skipping(PYTHON_PLUGINS, Python::install())? {
        python.test()?;
        python.build()?;
    }
    if let Some(javascript) = skipping(JAVASCRIPT_PLUGINS, JavaScript::install())? {
        javascript.test()?;
        javascript.build()?;
    }
    Ok(())
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
        let python = command::find_or_install("python3", "Python, for plugins in it")?;
        // Debian has it in a package of its own.
        let mut probe = program(&python);
        probe.args(["-c", "import ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            command::install("python3-venv", "Python's environments")?;
        }
        // From another version of Python, or half of one.
        remove(&self.environment)?;
        let mut venv = program(python);
        venv.args(["-m", "venv"]).arg(&self.environment);
        command::run(venv)?;
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
        let copy = target().join("javascript");
        tools::node_packages("javascript-tools", &sources(JAVASCRIPT), &copy)?;
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
