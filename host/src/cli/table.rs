//! Text reports: rows with a name and a text.
//!
//! Measured durations have three decimals and a space before the unit. Durations of settings have
//! the format of the settings.

use std::fmt;
use std::time::Duration;

/// Width of the column of names, in characters.
const NAME_WIDTH: usize = 14;

/// Writes a row. Further lines of the text are indented below the first one, and control
/// characters become spaces, so a text cannot forge a row.
pub(super) fn write_row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    text: impl fmt::Display,
) -> fmt::Result {
    let text = text.to_string();
    let mut name = name;
    for line in text.split('\n') {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        writeln!(f, "  {name:<NAME_WIDTH$}{}", line.trim_end())?;
        name = "";
    }
    Ok(())
}

/// Formats a measured duration in milliseconds.
pub(super) fn format_elapsed(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// Formats a size in the largest unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        0 => "0 bytes".to_owned(),
        1 => "1 byte".to_owned(),
        gib if gib % GIB == 0 => format!("{} GiB", gib / GIB),
        mib if mib % MIB == 0 => format!("{} MiB", mib / MIB),
        kib if kib % KIB == 0 => format!("{} KiB", kib / KIB),
        bytes => format!("{bytes} bytes"),
    }
}

/// Formats pairs as two aligned columns, one pair per line.
pub(super) fn format_columns<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(left, right)| format!("{left:<width$}  {right}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_columns_are_human_readable() {
        assert_eq!(
            [
                format_size(0),
                format_size(1),
                format_size(1 << 25),
                format_size(1_114_112),
                format_size(7)
            ],
            ["0 bytes", "1 byte", "32 MiB", "1088 KiB", "7 bytes"]
        );
        assert_eq!(format_elapsed(Duration::from_micros(1_500)), "1.500 ms");
        assert_eq!(format_columns([("a", "one"), ("bcd", "two")]), "a    one\nbcd  two");
    }

    #[test]
    fn row_text_cannot_forge_another_row() {
        struct UntrustedRow;
        impl fmt::Display for UntrustedRow {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_row(f, "said", "one\ntwo\r\u{1b}[31m")
            }
        }
        assert_eq!(UntrustedRow.to_string(), "  said          one\n                two  [31m\n");
    }
}
