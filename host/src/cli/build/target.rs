//! The target that plugins are built for: whether it is there, and how it is installed.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::toolchain::Toolchain;

/// What every plugin is built for.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// Sees to it that there is what plugins are built for; asks first, unless it may.
///
/// # Errors
///
/// When it is missing, and is not to be or cannot be installed.
pub(super) fn ensure(toolchain: &Toolchain, may_install: bool) -> anyhow::Result<()> {
    if is_there(toolchain)? {
        return Ok(());
    }
    let install = format!("rustup target add {TARGET}");
    let missing = format!("rustc has no {TARGET} installed, which plugins are built for");
    if !may_install && !agrees(&missing, &install)? {
        bail!("{missing}; install it with\n\n  {install}\n\nor have it installed by --yes");
    }
    eprintln!("+ {install}");
    let mut rustup = toolchain.rustup();
    let status = rustup.args(["target", "add", TARGET]).status();
    let status = status.with_context(|| {
        format!(
            "{missing}, and rustup cannot be started; without rustup, install the target with the \
             package that rustc came in"
        )
    })?;
    if !status.success() || !is_there(toolchain)? {
        bail!("`{install}` did not install it ({status})");
    }
    Ok(())
}

/// Whether rustc has the target's standard library, however it was installed.
fn is_there(toolchain: &Toolchain) -> anyhow::Result<bool> {
    let mut rustc = toolchain.rustc();
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let answer = rustc.output().context("cannot start rustc; plugins are built with it")?;
    if !answer.status.success() {
        let said = String::from_utf8_lossy(&answer.stderr);
        bail!("rustc cannot say whether it has {TARGET}:\n{}", said.trim_end());
    }
    let folder = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Asks the person at the terminal, if there is one.
fn agrees(missing: &str, install: &str) -> io::Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("{missing}. Run `{install}`? [Y/n] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    // An end of input is no answer.
    let said = io::stdin().lock().read_line(&mut answer)? > 0;
    Ok(said && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
