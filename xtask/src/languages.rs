//! Plugins in Python and JavaScript: installs their tools from PyPI and npm below
//! `target/`, and builds the samples and the fixture guests of the whole-system tests.
//! When tools cannot be installed, the tests of that language are skipped, except in
//! continuous integration (`CI`).

use std::path::{Path, PathBuf};

use crate::build::{deploy, plugin_folder, target};
use crate::command::{self, Result, program};
use crate::root;
use crate::tools::{self, Stamp, files, remove, skipping};

/// World of a router in `wit/`.
const WORLD: &str = "router-plugin";

/// Sample in Python, and its place in the chain, after the samples in Rust.
const PYTHON: (&str, &str) = ("80", "python-languages");
/// Sample in JavaScript, and its place in the chain.
const JAVASCRIPT: (&str, &str) = ("85", "javascript-skills");

/// Name of the Python samples in messages.
const PYTHON_PLUGINS: &str = "plugins in Python";
/// Name of the JavaScript samples in messages.
const JAVASCRIPT_PLUGINS: &str = "plugins in JavaScript";

/// Builds the samples and fixtures of every language whose tools can be installed.
pub fn build() -> Result {
    skipping(PYTHON_PLUGINS, Python::install())?.map_or(Ok(()), |python| python.build())?;
    skipping(JAVASCRIPT_PLUGINS, JavaScript::install())?
        .map_or(Ok(()), |javascript| javascript.build())
}

/// Builds samples and fixtures, and runs the samples' own tests.
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
        let environment = target().join("python");
        let purpose = "for plugins in Python";
        tools::python_packages("python-tools", &Self::requirements(), &environment, purpose)?;
        Ok(Self { environment })
    }

    fn componentize_py(&self) -> std::process::Command {
        let mut tool = program(self.environment.join("bin/componentize-py"));
        // Otherwise componentize-py takes modules from the Python in the PATH.
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

    /// Builds a component from a module.
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

    /// Returns the file that pins the version of the tool.
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

/// componentize-qjs in a copy of the sample, which keeps `node_modules` out of the source
/// tree.
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

    /// Copies the sources to the build folder.
    fn refresh(&self) -> Result {
        let from = sources(JAVASCRIPT);
        for file in files(&from)? {
            let Ok(path) = file.strip_prefix(&from) else { continue };
            // `npm` creates this folder if it runs in the source tree.
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

    /// Builds a component from a module and the modules it imports.
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

/// Returns the directory of a sample's sources.
fn sources((_, name): (&str, &str)) -> PathBuf {
    root().join("plugins").join(name)
}

/// Returns the directory of the fixture guests' sources.
fn guests() -> PathBuf {
    root().join("tests/guests/languages")
}

/// Deploys a sample with its settings into the plugin folder.
fn deploy_sample((order, name): (&str, &str), component: &Path) -> Result {
    let deployed = plugin_folder().join(format!("{order}-{name}"));
    deploy(
        &sources((order, name)).join(name).with_extension("toml"),
        &deployed.with_extension("toml"),
    )?;
    deploy(component, &deployed.with_extension("wasm"))
}
