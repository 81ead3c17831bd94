//! Opening hours of the office in its time zone.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use plugboard_sdk::{Error, Result, config};
use serde::Deserialize;

/// Minutes of a day. The time zone handles days on which the clocks change.
const DAY: i16 = 24 * 60;

/// Opening hours from the settings.
pub struct Hours {
    zone: TimeZone,
    holidays: Vec<Date>,
    /// The hours of each weekday, Monday first.
    week: [Vec<Span>; 7],
}

/// State of the office at a moment.
pub struct State {
    pub open: bool,
    /// Time until the next change. None: no change on this day or the next.
    pub lasts: Option<Duration>,
}

/// Opening and closing time, in minutes since the midnight at which the day begins. The
/// closing time is later than the opening time, so it can be on the next day.
#[derive(Debug, PartialEq)]
struct Span {
    opens: i16,
    closes: i16,
}

/// The table `hours`. The office is closed on days that it lacks.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Week {
    monday: String,
    tuesday: String,
    wednesday: String,
    thursday: String,
    friday: String,
    saturday: String,
    sunday: String,
}

impl Hours {
    pub fn from_settings() -> Result<Self> {
        let name = config::require("time_zone")?;
        let zone = TimeZone::get(&name).map_err(|_| {
            invalid_setting(
                "time_zone",
                format_args!("unknown time zone `{name}`; expected a name such as Europe/Rome"),
            )
        })?;
        let holidays: Vec<String> = config::table("holidays")?.unwrap_or_default();
        let holidays = holidays.iter().map(|text| {
            text.parse().map_err(|_| {
                invalid_setting(
                    "holidays",
                    format_args!("invalid date `{text}`; expected a date such as 2026-12-25"),
                )
            })
        });
        let week: Week = config::table("hours")?
            .ok_or_else(|| Error::new("[config] has no `hours`, a table of days"))?;
        Ok(Self { zone, holidays: holidays.collect::<Result<_>>()?, week: week.spans()? })
    }

    pub fn at(&self, now: Timestamp) -> Result<State> {
        let today = self.zone.to_datetime(now).date();
        let mut open = false;
        let mut changes = Vec::new();
        // Yesterday's hours can end today. Tomorrow's hours begin at midnight at the
        // earliest; later changes do not matter.
        for day in [today.yesterday()?, today, today.tomorrow()?] {
            for span in self.spans(day) {
                let (opens, closes) =
                    (self.moment(day, span.opens)?, self.moment(day, span.closes)?);
                open |= opens <= now && now < closes;
                changes.extend([opens, closes]);
            }
        }
        let next = changes.into_iter().filter(|change| *change > now).min();
        Ok(State { open, lasts: next.map(|next| now.duration_until(next).unsigned_abs()) })
    }

    /// Returns the hours that begin on a day.
    fn spans(&self, day: Date) -> &[Span] {
        if self.holidays.contains(&day) {
            return &[];
        }
        let weekday = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap_or_default();
        self.week.get(weekday).map_or(&[], Vec::as_slice)
    }

    /// Returns the moment of a local time. If the clock shows the time twice, it is the
    /// first moment. If the clock skips the time, it is later by the skipped interval.
    fn moment(&self, day: Date, minute: i16) -> Result<Timestamp> {
        let day = if minute < DAY { day } else { day.tomorrow()? };
        let (hour, minute) = (minute % DAY / 60, minute % 60);
        let time = day.at(i8::try_from(hour)?, i8::try_from(minute)?, 0, 0);
        Ok(self.zone.to_timestamp(time)?)
    }
}

impl Week {
    fn spans(&self) -> Result<[Vec<Span>; 7]> {
        Ok([
            spans("hours.monday", &self.monday)?,
            spans("hours.tuesday", &self.tuesday)?,
            spans("hours.wednesday", &self.wednesday)?,
            spans("hours.thursday", &self.thursday)?,
            spans("hours.friday", &self.friday)?,
            spans("hours.saturday", &self.saturday)?,
            spans("hours.sunday", &self.sunday)?,
        ])
    }
}

/// Parses spans that are separated by commas.
fn spans(key: &str, text: &str) -> Result<Vec<Span>> {
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    texts.map(|text| text.parse().map_err(|error: Error| invalid_setting(key, error))).collect()
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let times = text.split_once('-');
        let times = times.and_then(|(opens, closes)| Some((time(opens)?, time(closes)?)));
        match times {
            Some((opens, closes)) if opens == closes => Err(Error::new(format_args!(
                "`{text}` ends at its start time; use 00:00-24:00 for a whole day"
            ))),
            Some((opens, closes)) if opens < DAY => {
                Ok(Self { opens, closes: if closes > opens { closes } else { closes + DAY } })
            }
            _ => Err(Error::new(format_args!(
                "invalid span `{text}`; expected a span such as 09:00-18:00"
            ))),
        }
    }
}

/// Returns the minutes since midnight of a time such as `9:00`, `09:00` or `24:00`.
fn time(text: &str) -> Option<i16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let fits = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| text.parse::<i16>().ok())?
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let time = hour * 60 + minute;
    (minute < 60 && time <= DAY).then_some(time)
}

fn invalid_setting(key: &str, why: impl std::fmt::Display) -> Error {
    Error::new(format_args!("[config] `{key}`: {why}"))
}
