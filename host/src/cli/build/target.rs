//! The WebAssembly target of plugins: check and installation.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail};

use super::toolchain::Toolchain;

/// Target of every plugin.
pub(super) const WASM_TARGET: &str = "wasm32-wasip2";

/// Installs the target if it is missing. Asks the user first, unless `may_install` is set.
///
/// # Errors
///
/// If the target is missing and the user declines, or the installation fails.
pub(super) fn ensure_installed(toolchain: &Toolchain, may_install: bool) -> anyhow::Result<()> {
    if is_installed(toolchain)? {
        return Ok(());
    }
    let install = format!("rustup target add {WASM_TARGET}");
    let problem = format!("the target {WASM_TARGET}, which plugins need, is not installed");
    if !may_install && !confirm_install(&problem, &install)? {
        bail!("{problem}; install it with\n\n  {install}\n\nor with --yes");
    }
    eprintln!("+ {install}");
    let mut rustup = toolchain.rustup();
    let status = rustup.args(["target", "add", WASM_TARGET]).status();
    let status = status.with_context(|| {
        format!(
            "{problem}, and rustup cannot be started; without rustup, install the target from \
             the same source as rustc"
        )
    })?;
    if !status.success() || !is_installed(toolchain)? {
        bail!("`{install}` did not install the target ({status})");
    }
    Ok(())
}

/// Returns whether rustc has the target's standard library, installed by any means.
fn is_installed(toolchain: &Toolchain) -> anyhow::Result<bool> {
    let mut rustc = toolchain.rustc();
    rustc.args(["--print", "target-libdir", "--target", WASM_TARGET]);
    let output = rustc.output().context("cannot start rustc, which builds the plugins")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "cannot get the folder of the target {WASM_TARGET} from rustc:\n{}",
            stderr.trim_end()
        );
    }
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Asks the user at the terminal. Returns false without a terminal.
fn confirm_install(problem: &str, install: &str) -> io::Result<bool> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Ok(false);
    }
    eprint!("{problem}. Run `{install}`? [Y/n] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    // The end of input counts as no.
    let has_input = io::stdin().lock().read_line(&mut answer)? > 0;
    Ok(has_input && matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes"))
}
