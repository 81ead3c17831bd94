//! The pages of `docs/reference/`, generated from the code, because a reference written by hand
//! becomes outdated.
//!
//! Configuration and settings come from the types that read them, metrics from the registry, errors
//! from their types, the command line from clap. The tests here compare; `cargo xtask docs` writes.

mod command_line;
mod errors;
mod metrics;
mod settings;

use expect_test::ExpectFile;

/// What stands on top of each page.
const GENERATED_NOTICE: &str =
    "<!-- Made from the code by `cargo xtask docs`. Change it there. -->";

/// Compares a page with what it should be, or writes it (`UPDATE_EXPECT`).
fn assert_page(page: &ExpectFile, text: &str) {
    let is_current = page.data() == text;
    if !is_current && std::env::var_os("UPDATE_EXPECT").is_none() {
        eprintln!(
            "{} is not what the code says; run `cargo xtask docs`",
            page.path.display().to_string().trim_start_matches("../")
        );
    }
    page.assert_eq(text);
}

/// A row of a table.
fn table_row(cells: &[&str]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The head of a table.
fn table_header(cells: &[&str]) -> String {
    format!("{}|{}\n", table_row(cells), "---|".repeat(cells.len()))
}
