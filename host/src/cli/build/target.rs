//! The WebAssembly target of plugins: whether it is installed, and how to install it.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::toolchain::Toolchain;

/// What every plugin is built for.
pub(super) const WASM_TARGET: &str = "wasm32-wasip2";

/// Sees to it that there is what plugins are built for; asks first, unless it may.
///
/// # Errors
///
/// When it is missing, and is not to be or cannot be installed.
pub(super) fn ensure_installed(toolchain: &Toolchain, may_install: bool) -> anyhow::Result<()> {
    if is_installed(toolchain)? {
        return Ok(());
    }
    let install = format!("rustup target add {WASM_TARGET}");
    let problem = format!("rustc has no {WASM_TARGET} installed, which plugins are built for");
    if !may_install && !confirm_install(&problem, &install)? {
        bail!("{problem}; install it with\n\n  {install}\n\nor have it installed by --yes");
    }
    eprintln!("+ {install}");
    let mut rustup = toolchain.rustup();
    let status = rustup.args(["target", "add", WASM_TARGET]).status();
    let status = status.with_context(|| {
        format!(
            "{problem}, and rustup cannot be started; without rustup, install the target with the \
             package that rustc came in"
        )
    })?;
    if !status.success() || !is_installed(toolchain)? {
        bail!("`{install}` did not install it ({status})");
    }
    Ok(())
}

/// Whether rustc has the target's standard library, however it was installed.
fn is_installed(toolchain: &Toolchain) -> anyhow::Result<bool> {
    let mut rustc = toolchain.rustc();
    rustc.args(["--print", "target-libdir", "--target", WASM_TARGET]);
    let output = rustc.output().context("cannot start rustc; plugins are built with it")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("rustc cannot say whether it has {WASM_TARGET}:\n{}", stderr.trim_end());
    }
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Asks the person at the terminal, if there is one.
fn confirm_install(problem: &str, install: &str) -> io::Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("{problem}. Run `{install}`? [Y/n] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    // An end of input is no answer.
    let has_input = io::stdin().lock().read_line(&mut answer)? > 0;
    Ok(has_input && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
