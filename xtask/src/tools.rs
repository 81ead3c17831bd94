//! What tests need beside Rust: whether it is there, how it is installed below `target/`,
//! and what becomes of the tests if it cannot be had.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::build::{deploy, target};
use crate::command::{self, Result, output, program, say};

/// The oldest Node.js that everything works with.
const NODE: u32 = 20;

/// What tells npm what to install.
const PACKAGES: [&str; 2] = ["package.json", "package-lock.json"];

/// What a test needs, if it is there. That it is not is told, and an error only in
/// continuous integration, where everything has to be tested.
pub(crate) fn skipping<T>(what: &str, installed: Result<T>) -> Result<Option<T>> {
    match installed {
        Ok(tools) => Ok(Some(tools)),
        Err(why) if std::env::var_os("CI").is_some() => {
            Err(format!("{what} cannot be tested: {why}"))
        }
        Err(why) => {
            say(&format!("SKIPPED: {what}: {why}"));
            Ok(None)
        }
    }
}

/// What the documents' commands are typed with.
pub(crate) fn prepare_documents() -> Result {
    let installed = || -> Result {
        for name in ["curl", "openssl"] {
            command::find_or_install(name, "for the documents' commands")?;
        }
        Ok(())
    };
    skipping("the documents' commands", installed()).map(|_| ())
}

/// Installs the packages of npm that a folder names into another one, so that nothing
/// comes into the source tree. `name` is that of the [`Stamp`].
pub(crate) fn node_packages(name: &str, from: &Path, to: &Path) -> Result {
    node()?;
    for file in PACKAGES {
        deploy(&from.join(file), &to.join(file))?;
    }
    let inputs = PACKAGES.map(|file| to.join(file));
    // npm's own list, which it leaves behind when it is done.
    let installed = to.join("node_modules/.package-lock.json");
    Stamp::new(name, &inputs, &installed)?.unless_made(|| {
        let mut npm = program("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        npm.current_dir(to);
        command::run(npm)
    })
}

/// Whether Node.js and npm are there, and new enough.
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

/// What something was made of, so that it is only made anew when that has changed.
pub(crate) struct Stamp<'a> {
    file: PathBuf,
    digest: String,
    made: &'a Path,
}

impl<'a> Stamp<'a> {
    /// Of these files and folders, for a file or folder that is made of them.
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

    /// Makes it, unless it was made of the same.
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

/// The file itself, or all files in a folder and those within it, in their order.
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

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}
