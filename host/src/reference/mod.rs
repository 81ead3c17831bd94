//! Pages of `docs/reference/`, generated from the code so that they stay current.
//!
//! Configuration and settings come from the types that read them, metrics from the registry, errors
//! from their types, and the command line from clap. The tests here compare the pages with the
//! files; `cargo xtask docs` writes the files.

mod command_line;
mod errors;
mod metrics;
mod settings;

use expect_test::ExpectFile;

/// First line of each page.
const GENERATED_NOTICE: &str =
    "<!-- Generated from the code by `cargo xtask docs`. Edit the code instead. -->";

/// Compares a page with the expected text, or writes it if `UPDATE_EXPECT` is set.
fn assert_page(page: &ExpectFile, text: &str) {
    let is_current = page.data() == text;
    if !is_current && std::env::var_os("UPDATE_EXPECT").is_none() {
        eprintln!(
            "{} is outdated; run `cargo xtask docs`",
            page.path.display().to_string().trim_start_matches("../")
        );
    }
    page.assert_eq(text);
}

/// Returns a row of a table.
fn table_row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// Returns the header of a table.
fn table_header(cells: &[&str]) -> String {
    format!("{}|{}\n", table_row(cells), "---|".repeat(cells.len()))
}
