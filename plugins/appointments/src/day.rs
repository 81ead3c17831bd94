//! The days, services and times that the settings offer.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use plugboard_sdk::prelude::*;

/// Default of `days_ahead`: the number of days that can be booked, from tomorrow on.
const DAYS_AHEAD: u32 = 60;

/// Time to live of a booking after the beginning of its day in UTC. After 48 hours, the day
/// is over in every time zone.
const KEPT_AFTER: Duration = Duration::from_secs(48 * 3600);

/// A day of a service that can be booked.
pub struct Day {
    pub date: Date,
    pub service: String,
    /// Time to live of its bookings in the store.
    pub kept_for: Duration,
}

impl Day {
    /// Returns the day that an agent names. Without a service, it is the first one.
    pub fn find(date: &str, service: Option<String>) -> Result<Self, ToolError> {
        let now = Timestamp::now();
        let today = now.to_zoned(TimeZone::UTC).date();
        let (first, last) = (today.tomorrow()?, today.checked_add(days_ahead()?.days())?);
        // Agents guess the year, so the error names the days that can be booked.
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

    /// Returns the key of its bookings in the store.
    pub fn key(&self) -> String {
        format!("booked/{}/{}", self.date, self.service)
    }
}

/// Returns the times of each day.
pub fn slots() -> Result<Vec<String>> {
    Ok(entries(&config::require("slots")?))
}

/// Returns a service of the settings. The agent's own text is not repeated, because it can
/// be a caller's name.
fn find_service(wanted: Option<String>) -> Result<String, ToolError> {
    let services = entries(&config::require("services")?);
    let found = match wanted {
        Some(wanted) => services.iter().find(|service| service.eq_ignore_ascii_case(&wanted)),
        None => services.first(),
    };
    found.cloned().ok_or_else(|| {
        ToolError::new(format_args!("unknown service; the services are: {}", services.join(", ")))
            .with_code("NO_SUCH_SERVICE")
    })
}

fn days_ahead() -> Result<i64> {
    Ok(config::parse::<u32>("days_ahead")?.unwrap_or(DAYS_AHEAD).into())
}

/// Returns the entries of a list that is separated by commas.
fn entries(text: &str) -> Vec<String> {
    text.split(',').map(|entry| entry.trim().to_owned()).filter(|entry| !entry.is_empty()).collect()
}
