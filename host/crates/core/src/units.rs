//! Serde of durations and sizes in configuration and settings: text with a unit.
//!
//! The crates jiff and bytesize parse the texts. Their serde modules are not used, because they
//! do not fit this configuration:
//!
//! * `jiff::fmt::serde::unsigned_duration::friendly` rejects days (`"7d"` is a default) and
//!   accepts zero. Its error for a number without a unit is "expected an unsigned duration
//!   string", without an example.
//! * `ByteSize` accepts a number without a unit (`max_body = 16`) and zero. It rounds written
//!   values: 1025 becomes `"1.0 KiB"`, so a documented default would differ from the real one.
//!   Its error is "expected parsable string".

use std::borrow::Cow;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// Longest duration: a year. It is longer than any sensible setting, and short enough to be
/// added to any time.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A duration above zero, at most a year: `"250ms"`, `"2s"`, `"1m 30s"`, `"7d"`. A field has
/// `#[serde(with = "units::duration")]` and `#[schemars(with = "units::DurationText")]`.
pub mod duration {
    use super::*;
    use serde::Serializer;

    /// Reads a duration.
    ///
    /// # Errors
    ///
    /// Fails if the value is not text with a unit, is zero, or is longer than a year.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = Deserialize::deserialize(deserializer).map_err(with_duration_hint)?;
        parse_duration(text).map_err(de::Error::custom)
    }

    /// Writes a duration in the form of [`format_duration`].
    ///
    /// # Errors
    ///
    /// Returns the error of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*span))
    }
}

/// An optional duration, as [`duration`]; zero means None.
pub mod duration_or_none {
    use super::*;
    use serde::Serializer;

    /// Reads a duration, and zero as None.
    ///
    /// # Errors
    ///
    /// Fails as [`duration::deserialize`] does.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text: String = Deserialize::deserialize(deserializer).map_err(with_duration_hint)?;
        if parse_span(&text).is_some_and(|span| span.is_zero()) {
            return Ok(None);
        }
        parse_duration(text).map(Some).map_err(de::Error::custom)
    }

    /// Writes a duration, and None as zero.
    ///
    /// # Errors
    ///
    /// Returns the error of the serializer.
    pub fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration::serialize(&span.unwrap_or_default(), serializer)
    }
}

/// A size in bytes, above zero: `"32MiB"`, `"64KiB"`, `"1000"`. A field has
/// `#[serde(with = "units::size")]` and `#[schemars(with = "units::SizeText")]`.
pub mod size {
    use super::*;
    use serde::Serializer;

    /// Reads a size.
    ///
    /// # Errors
    ///
    /// Fails if the value is not a size as text, is zero, or exceeds `usize`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let text: String = Deserialize::deserialize(deserializer)?;
        text.parse::<ByteSize>()
            .ok()
            .and_then(|size| usize::try_from(size.as_u64()).ok())
            .filter(|size| *size > 0)
            .ok_or_else(|| {
                de::Error::custom(format!(
                    "{text:?} is not a size: expected a number above zero and a unit, such as \
                     \"32MiB\""
                ))
            })
    }

    /// Writes a size in the largest unit that divides it. The text is exact, as the documented
    /// defaults require.
    ///
    /// # Errors
    ///
    /// Returns the error of the serializer.
    pub fn serialize<S: Serializer>(size: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_size(*size))
    }
}

/// The JSON schema of a duration.
#[derive(Debug)]
pub struct DurationText;

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DurationText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["250ms", "2s", "1m 30s", "7d"] })
    }
}

/// The JSON schema of a size.
#[derive(Debug)]
pub struct SizeText;

impl JsonSchema for SizeText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SizeText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "examples": ["64KiB", "32MiB"] })
    }
}

fn with_duration_hint<E: de::Error>(error: E) -> E {
    E::custom(format!("{error}; a duration is text with a unit, such as \"250ms\" or \"2s\""))
}

fn parse_duration(text: String) -> Result<Duration, String> {
    parse_span(&text)
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| !span.is_zero() && *span <= MAX_DURATION)
        .ok_or_else(|| {
            format!(
                "{text:?} is not a duration: expected a number above zero and a unit, such as \
                 \"250ms\" or \"2s\", at most a year"
            )
        })
}

/// Parses a duration; a day has 24 hours.
fn parse_span(text: &str) -> Option<jiff::SignedDuration> {
    text.parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
}

/// Returns a duration in microseconds, the unit of the log and of JSON documents.
pub fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Formats a duration in the largest unit that divides it, as settings have it: `"90s"`.
pub fn format_duration(span: Duration) -> String {
    const SECOND: u128 = 1_000_000_000;
    let units = [
        (24 * 60 * 60 * SECOND, "d"),
        (60 * 60 * SECOND, "h"),
        (60 * SECOND, "m"),
        (SECOND, "s"),
        (1_000_000, "ms"),
        (1, "ns"),
    ];
    match span.as_nanos() {
        0 => "0s".to_owned(),
        nanoseconds => format_in_units(nanoseconds, &units),
    }
}

fn format_size(size: usize) -> String {
    format_in_units(size as u128, &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")])
}

/// Formats a number in the first of the units that divides it.
fn format_in_units(number: u128, units: &[(u128, &str)]) -> String {
    let is_multiple = |(unit, _): &&(u128, &str)| number.is_multiple_of(*unit);
    let (unit, name) = units.iter().find(is_multiple).copied().unwrap_or((1, ""));
    format!("{}{name}", number / unit)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct Sample {
        #[serde(default, with = "duration")]
        time: Duration,
        #[serde(default, with = "duration_or_none")]
        perhaps: Option<Duration>,
        #[serde(default, with = "size")]
        size: usize,
    }

    #[test]
    fn durations_and_sizes_require_a_unit() {
        let read = |text: &str| toml::from_str::<Sample>(text).map_err(|e| e.message().to_owned());
        assert_eq!(read("time = '250ms'").unwrap().time, Duration::from_millis(250));
        assert_eq!(read("time = '1m 30s'").unwrap().time, Duration::from_secs(90));
        assert_eq!(read("time = '7d'").unwrap().time, Duration::from_secs(7 * 24 * 3600));
        assert_eq!(read("perhaps = '0s'").unwrap().perhaps, None);
        assert_eq!(read("perhaps = '1s'").unwrap().perhaps, Some(Duration::from_secs(1)));
        assert_eq!(read("size = '32MiB'").unwrap().size, 32 << 20);
        for bad in [
            "time = '250'",
            "time = '367d'",
            "time = '999999999999h'",
            "time = '0s'",
            "time = '-1s'",
            "time = 250",
            "time = 'soon'",
            "perhaps = '-1s'",
            "perhaps = 0",
        ] {
            assert!(read(bad).unwrap_err().contains("\"250ms\""), "{bad}");
        }
        for bad in ["size = 'big'", "size = '0'", "size = '1 parsec'"] {
            assert!(read(bad).unwrap_err().contains("is not a size"), "{bad}");
        }
    }

    #[test]
    fn written_values_read_back_equal() {
        for (time, perhaps, size) in
            [("2h", "0s", "16MiB"), ("90s", "1d", "1025B"), ("250ms", "1500ns", "1GiB")]
        {
            let text = format!("time = '{time}'\nperhaps = '{perhaps}'\nsize = '{size}'\n");
            let sample: Sample = toml::from_str(&text).unwrap();
            let written = serde_json::to_value(&sample).unwrap();
            let expected = serde_json::json!({ "time": time, "perhaps": perhaps, "size": size });
            assert_eq!(written, expected);
        }
    }
}
