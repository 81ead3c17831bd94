//! Tools other than Rust that tests and bench need. Finds them, installs them below `target/`,
//! and skips tests without them.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::build::{deploy, target};
use crate::command::{self, Result, output, program, say};

/// Oldest supported major version of Node.js.
const NODE: u32 = 20;

/// Files from which npm installs packages.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];

/// Returns tools, or None with a message if they cannot be installed. The tests that need
/// them are then skipped. In continuous integration, this is an error.
pub(crate) fn skipping<T>(subject: &str, installed: Result<T>) -> Result<Option<T>> {
    match installed {
        Ok(tools) => Ok(Some(tools)),
        Err(why) if std::env::var_os("CI").is_some() => {
            Err(format!("{subject} cannot be tested: {why}"))
        }
        Err(why) => {
            say(&format!("SKIPPED: {subject}: {why}"));
            Ok(None)
        }
    }
}

/// Installs the programs that commands in the documents use.
pub(crate) fn prepare_documents() -> Result {
    let installed = || -> Result {
        for name in ["curl", "openssl", "sqlite3"] {
            command::find_or_install(name, "for the documents' commands")?;
        }
        Ok(())
    };
    skipping("the documents' commands", installed()).map(|_| ())
}

/// Installs the load generator for the test of the bench.
pub(crate) fn prepare_bench() -> Result {
    skipping("the bench", wrk()).map(|_| ())
}

/// Finds or installs the load generator.
pub(crate) fn wrk() -> Result<PathBuf> {
    command::find_or_install("wrk", "the load generator of the bench")
}

/// Installs npm packages, as listed in `from`, into `to`, outside the source tree. `name`
/// names the [`Stamp`].
pub(crate) fn node_packages(name: &str, from: &Path, to: &Path) -> Result {
    node()?;
    for file in PACKAGES {
        deploy(&from.join(file), &to.join(file))?;
    }
    let inputs = PACKAGES.map(|file| to.join(file));
    // npm writes this list last.
    let installed = to.join("node_modules/.package-lock.json");
    Stamp::new(name, &inputs, &installed)?.unless_made(|| {
        let mut npm = program("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        npm.current_dir(to);
        command::run(npm)
    })
}

/// Installs the Python packages that a requirements file lists into a virtual environment in
/// `to`. `name` names the [`Stamp`], and `purpose` is for messages.
pub(crate) fn python_packages(name: &str, requirements: &Path, to: &Path, purpose: &str) -> Result {
    Stamp::new(name, &[requirements.to_path_buf()], to)?.unless_made(|| {
        let python = command::find_or_install("python3", purpose)?;
        // Debian has ensurepip in another package.
        let mut probe = program(&python);
        probe.args(["-c", "import ensurepip"]).stdout(Stdio::null()).stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            command::install("python3-venv", "virtual environments of Python")?;
        }
        // An existing environment can be incomplete, or of another version of Python.
        remove(to)?;
        let mut venv = program(python);
        venv.args(["-m", "venv"]).arg(to);
        command::run(venv)?;
        let mut pip = program(to.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        pip.arg(requirements);
        command::run(pip)
    })
}

/// Checks that Node.js and npm are installed and not too old.
fn node() -> Result {
    let missing = format!("install Node.js {NODE} or later, with npm: apt-get install nodejs npm");
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
    Ok(())
}

/// Digest of the inputs of a file or folder, which is built again only when they change.
pub(crate) struct Stamp<'a> {
    file: PathBuf,
    digest: String,
    made: &'a Path,
}

impl<'a> Stamp<'a> {
    /// Digests the inputs, files or folders. `made` is the file or folder that is built.
    pub(crate) fn new(name: &str, inputs: &[PathBuf], made: &'a Path) -> Result<Self> {
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

    /// Builds the file or folder, unless it was built from the same inputs.
    pub(crate) fn unless_made(&self, make: impl FnOnce() -> Result) -> Result {
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

/// Returns a file itself, or all files below a folder, sorted.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>> {
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

/// Removes a folder, if it exists.
pub(crate) fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}
