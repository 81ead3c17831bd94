//! Version of the program, and the commit of its sources (`build.rs`).

use std::sync::LazyLock;

use jiff::Timestamp;

/// Version of the package, from the workspace's manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Abbreviated hash of the commit. Empty: unknown.
pub const COMMIT: &str = env!("PLUGBOARD_COMMIT");

/// Date of the commit, or of `SOURCE_DATE_EPOCH`, in UTC: `2026-11-30`. Empty: unknown.
pub static DATE: LazyLock<String> = LazyLock::new(|| format_date(env!("PLUGBOARD_BUILD_TIME")));

/// Version with commit and date, as far as they are known: `0.1.0 (3155428 2026-11-30)`.
pub static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format_version(VERSION, COMMIT, &DATE));

/// Formats a number of seconds since 1970. Returns an empty text if the number is invalid.
fn format_date(seconds: &str) -> String {
    let time = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map(|time| time.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
}

fn format_version(version: &str, commit: &str, date: &str) -> String {
    match format!("{commit} {date}").trim() {
        "" => version.to_owned(),
        origin => format!("{version} ({origin})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_is_in_utc() {
        assert_eq!(format_date("1796083199"), "2026-11-30");
        assert_eq!(format_date("1796083200"), "2026-12-01");
        assert_eq!(format_date(""), "");
        assert_eq!(format_date("18446744073709551615"), "");
    }

    #[test]
    fn version_has_known_parts_only() {
        assert_eq!(format_version("0.1.0", "3155428", "2026-11-30"), "0.1.0 (3155428 2026-11-30)");
        assert_eq!(format_version("0.1.0", "", "2026-11-30"), "0.1.0 (2026-11-30)");
        assert_eq!(format_version("0.1.0", "", ""), "0.1.0");
    }
}
