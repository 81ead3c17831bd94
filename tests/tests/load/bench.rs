//! `cargo xtask bench --short`: every part runs, and prints its figures.

use std::process::Command;

use tests::{is_built, program, skip_or_fail_in_ci};

use super::ALONE;

/// Runs the bench, and returns its output.
fn run_bench(arguments: &[&str]) -> String {
    let mut bench = Command::new(program().with_file_name("bench"));
    let output = bench.arg("--short").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Asserts that a line begins with `label`, and that the rest has this number of
/// figures, all positive and without "NaN" or "inf".
fn assert_figures(printed: &str, label: &str, figures: usize) {
    let rest = printed.lines().find_map(|line| line.strip_prefix(label));
    let rest = rest.unwrap_or_else(|| panic!("no line begins with {label:?}:\n{printed}"));
    assert!(!rest.contains("NaN") && !rest.contains("inf"), "{label}{rest}");
    let is_numeric = |c: char| c.is_ascii_digit() || c == '.';
    let numbers = rest.split(|c: char| !is_numeric(c)).map(|word| word.trim_matches('.'));
    let numbers: Vec<f64> = numbers.filter_map(|word| word.parse().ok()).collect();
    assert_eq!(numbers.len(), figures, "{label}{rest}");
    assert!(numbers.iter().all(|number| *number > 0.0), "{label}{rest}");
}

fn has_wrk() -> bool {
    let has_wrk = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join("wrk").is_file());
    if !has_wrk {
        skip_or_fail_in_ci("the bench: wrk is not installed");
    }
    has_wrk
}

#[test]
fn bench_prints_figures_of_every_part() {
    let _alone = ALONE.blocking_lock();
    if !has_wrk() {
        return;
    }
    let printed = run_bench(&[]);
    for row in ["bare axum handler", "uncached, 1 plugin", "uncached, +others", "cached decision"] {
        // Figures: req/s; ratio and range; CPU; ratio and range; four latencies.
        assert_figures(&printed, row, 12);
    }
    assert_figures(&printed, "49 other plugins, none of which matches the call: CPU", 3);
    // The first table has a row of the same name, so search from the second one.
    let (_, events) = printed.split_once("accepted events ").unwrap();
    for row in ["bare axum handler", "sync = full  ", "sync = normal", "sync = full, delivered"] {
        assert_figures(events, row, 8);
    }
    // The text has the rate, two percentiles of the acknowledgement and an object of latencies.
    assert!(events.contains("\nat 2000 events/s: acknowledged after "), "{printed}");
    let (_, latencies) = events.split_once("(resolution 1 ms): {").unwrap();
    assert!(latencies.lines().next().unwrap().contains("\"p50\":"), "{printed}");
    let (_, backlog) = events.split_once("\nbacklog of ").unwrap();
    assert_figures(backlog, "", 6);
    for (line, figures) in [
        ("from a saved file to the first response of the new version: ", 2),
        ("start with 4 plugins: ", 2),
        ("resident memory per idle plugin: ", 1),
    ] {
        assert_figures(&printed, line, figures);
    }
    for (row, is_built) in
        [("Rust ", true), ("JavaScript ", is_built("javascript")), ("Python ", is_built("python"))]
    {
        match is_built {
            // File; first start and its CPU; next start; CPU; ratio and range; p50; memory.
            true => assert_figures(&printed, row, 11),
            false => assert!(printed.contains(row), "{printed}"),
        }
    }
}

#[test]
fn bench_compares_two_binaries() {
    let _alone = ALONE.blocking_lock();
    if !has_wrk() {
        return;
    }
    let other = program();
    let printed = run_bench(&["--compare", other.to_str().unwrap(), "--compare-env", "TZ=UTC"]);
    assert!(printed.contains(&format!("other: {}\n", other.display())), "{printed}");
    for row in ["uncached decision", "cached decision", "accepted event "] {
        // Figures: CPU of three servers; two ratios to bare; the ratio, its middle half and range.
        assert_figures(&printed, row, 10);
    }
}
