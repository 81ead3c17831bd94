//! Comparison of output with a file in `tests/golden`. Parts that differ between runs or
//! builds are masked. `UPDATE_EXPECT=1` rewrites the files.

use std::path::Path;

use expect_test::expect_file;

/// Rows with numbers that depend on the compiler.
const MASKED_ROWS: [&str; 6] = ["size", "needs", "instance", "instructions", "memory", "file"];

/// Asserts that a program's output equals `tests/golden/NAME.txt`.
///
/// # Panics
///
/// Panics if the texts differ.
pub fn assert_golden(name: &str, output: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    expect_file![path.with_added_extension("txt")].assert_eq(&mask_variable_parts(output));
}

/// Replaces times, sizes and numbers of functions with `#`, and removes the path of the
/// repository.
fn mask_variable_parts(output: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = output.replace(&format!("{}/", root.display()), "");
    let mut row = String::new();
    let mut lines = Vec::new();
    for line in output.lines() {
        // A row without a name continues the row above.
        if let Some(name) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            row = name.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with(' ') {
            row.clear();
        }
        // The settings determine the limit, so its number stays.
        let (line, limit) = match line.split_once(" of 32 MiB") {
            Some((line, _)) => (line, " of 32 MiB"),
            None => (line, ""),
        };
        // The position of an error in a damaged file depends on the compiler as well.
        let should_mask_all = MASKED_ROWS.contains(&&*row) || line.contains("is out of bounds");
        let masked_line = match should_mask_all {
            true => mask_numbers(line, |_| true),
            false => mask_numbers(line, |after| {
                after.starts_with(" ms") || after.starts_with(" functions")
            }),
        };
        let masked =
            if row == "backtrace" { mask_function_index(&masked_line) } else { masked_line };
        lines.push(masked + limit);
    }
    lines.join("\n") + "\n"
}

/// Masks the index in `function 12`, which changes with the SDK.
fn mask_function_index(line: &str) -> String {
    match line.split_once("function ") {
        Some((before, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            format!("{before}function {}", mask_numbers(rest, |_| true))
        }
        _ => line.to_owned(),
    }
}

/// Replaces each number with `#` if `should_mask` accepts the text after it.
fn mask_numbers(line: &str, should_mask: impl Fn(&str) -> bool) -> String {
    let (mut masked, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let length = number.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = number.split_at(length.unwrap_or(number.len()));
        // The padding before a time depends on its length.
        let time = before.trim_end();
        masked += if time.ends_with(" at") { time } else { before };
        masked += if time.ends_with(" at") { " " } else { "" };
        masked += if should_mask(after) { "#" } else { number };
        rest = after;
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_variable_parts_are_masked() {
        let output = "10-a: good\n  size          48011 bytes\n  limits        timeout  250ms\n  \
                    steps         at   1.250 ms  kv.get k5 → 9 bytes, in 0.001 ms\n  needs         \
                    1 memory of 1152 KiB\n                2 tables of 47 elements\n  memory        \
                    1152 KiB of 32 MiB\n  backtrace     function 54 (64 times)\n";
        let expected = "10-a: good\n  size          # bytes\n  limits        timeout  250ms\n  steps         \
                        at # ms  kv.get k5 → 9 bytes, in # ms\n  needs         # memory of # \
                        KiB\n                # tables of # elements\n  memory        # KiB of 32 \
                        MiB\n  backtrace     function # (# times)\n";
        assert_eq!(mask_variable_parts(output), expected);
    }
}
