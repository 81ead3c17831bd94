//! The days, services and times that the settings offer.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use plugboard_sdk::prelude::*;

/// For how many days there is something to book, unless the settings say.
const DAYS_AHEAD: u32 = 60;

/// For how long a booking is kept after the midnight that its day begins with, in UTC:
/// until the day is over everywhere.
const KEPT_AFTER: Duration = Duration::from_secs(48 * 3600);

/// A day of a service, on which there is something to book.
pub struct Day {
    pub date: Date,
    pub service: String,
    /// For how long its bookings matter.
    pub kept_for: Duration,
}

impl Day {
    /// The day that an agent asks about.
    pub fn find(date: &str, service: Option<String>) -> Result<Self, ToolError> {
        let now = Timestamp::now();
        let today = now.to_zoned(TimeZone::UTC).date();
        let (first, last) = (today.tomorrow()?, today.checked_add(days_ahead()?.days())?);
        // Agents guess the year, so they are told the days that there are.
        let offered = || {
            ToolError::new(format_args!(
                "`date` should be a day from {first} to {last}, such as {first}"
            ))
            .with_code("INVALID_DATE")
        };
        let date: Date = date.parse().map_err(|_| offered())?;
        if date < first || date > last {
            return Err(offered());
        }
        let midnight = date.to_zoned(TimeZone::UTC)?.timestamp();
        let kept_for = now.duration_until(midnight).unsigned_abs().saturating_add(KEPT_AFTER);
        Ok(Self { date, service: find_service(service)?, kept_for })
    }

    /// Where its bookings are in the store.
    pub fn key(&self) -> String {
        format!("booked/{}/{}", self.date, self.service)
    }
}

/// The times of every day.
pub fn slots() -> Result<Vec<String>> {
    Ok(words(&config::require("slots")?))
}

/// Only what the settings name: what an agent says may be a caller's name.
fn find_service(wanted: Option<String>) -> Result<String, ToolError> {
    let services = words(&config::require("services")?);
    let found = match wanted {
        Some(wanted) => services.iter().find(|service| service.eq_ignore_ascii_case(&wanted)),
        None => services.first(),
    };
    found.cloned().ok_or_else(|| {
        ToolError::new(format_args!("there is no such service; there is {}", services.join(", ")))
            .with_code("NO_SUCH_SERVICE")
    })
}

fn days_ahead() -> Result<i64> {
    Ok(config::parse::<u32>("days_ahead")?.unwrap_or(DAYS_AHEAD).into())
}

/// Words with commas between them.
fn words(text: &str) -> Vec<String> {
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}
