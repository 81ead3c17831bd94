//! Spans and sizes as people write them in settings: with a unit, always.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

/// A year: longer than anything here takes or is kept, and short enough to be added
/// to any time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Reads `"250ms"`, `"2s"`, `"1m 30s"`, `"7d"`.
///
/// # Errors
///
/// When it is not a span of time above zero, or longer than a year.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = Deserialize::deserialize(deserializer).map_err(expect_duration)?;
    parse_duration(text).map_err(de::Error::custom)
}

/// As [`duration`], but zero is none.
///
/// # Errors
///
/// As [`duration`].
pub fn duration_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text: String = Deserialize::deserialize(deserializer).map_err(expect_duration)?;
    if span(&text).is_some_and(|span| span.is_zero()) {
        return Ok(None);
    }
    parse_duration(text).map(Some).map_err(de::Error::custom)
}

fn expect_duration<E: de::Error>(error: E) -> E {
    E::custom(format!("{error}; a duration is text with a unit, such as \"250ms\" or \"2s\""))
}

fn parse_duration(text: String) -> Result<Duration, String> {
    span(&text)
        .and_then(|span| Duration::try_from(span).ok())
        .filter(|span| !span.is_zero() && *span <= LONGEST)
        .ok_or_else(|| {
            format!(
                "{text:?} is not a duration: expected a number above zero and a unit, such as \
                 \"250ms\" or \"2s\", a year at the most"
            )
        })
}

/// A day counts as 24 hours.
fn span(text: &str) -> Option<jiff::SignedDuration> {
    text.parse::<jiff::Span>()
        .and_then(|span| span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()))
        .ok()
}

/// Reads `"32MiB"`, `"64KiB"`, `"1000"` (bytes).
///
/// # Errors
///
/// When it is not a size above zero that this machine can address.
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text: String = Deserialize::deserialize(deserializer)?;
    text.parse::<ByteSize>()
        .ok()
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .filter(|size| *size > 0)
        .ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is not a size: expected a number above zero and a unit, such as \"32MiB\""
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "duration")]
        time: Duration,
        #[serde(default, deserialize_with = "duration_or_none")]
        perhaps: Option<Duration>,
        #[serde(default, deserialize_with = "size")]
        size: usize,
    }

    #[test]
    fn units_are_read_and_demanded() {
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
}
