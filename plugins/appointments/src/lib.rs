//! Two tools for voice agents: `check_availability` returns the free times of a day,
//! `book_appointment` books one.
//!
//! The store has the booked times of a day under `booked/DATE/SERVICE`, each with the
//! number of its booking. A key with the call's id has the number that the call got. The
//! operator can therefore erase the call, and the time stays booked.

mod day;

use std::collections::BTreeMap;

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::day::Day;

/// The booked times of a day, with the numbers of their bookings.
type Booked = BTreeMap<String, i64>;

struct Appointments;

impl Tools for Appointments {
    fn tools() -> ToolBox {
        ToolBox::new()
            .with("check_availability", check_availability)
            .with("book_appointment", book_appointment)
    }
}

#[derive(Deserialize)]
struct Query {
    date: String,
    service: Option<String>,
}

#[derive(Serialize)]
struct Availability {
    date: String,
    service: String,
    slots: Vec<String>,
}

fn check_availability(_: &Call, query: Query) -> Result<Availability, ToolError> {
    let day = Day::find(&query.date, query.service)?;
    let booked: Booked = kv::get_json(&day.key())?.unwrap_or_default();
    let mut slots = day::slots()?;
    slots.retain(|slot| !booked.contains_key(slot));
    Ok(Availability { date: day.date.to_string(), service: day.service, slots })
}

#[derive(Deserialize)]
struct Order {
    date: String,
    time: String,
    service: Option<String>,
}

#[derive(Serialize)]
struct Booking {
    date: String,
    time: String,
    service: String,
    number: i64,
}

fn book_appointment(call: &Call, order: Order) -> Result<Booking, ToolError> {
    let day = Day::find(&order.date, order.service)?;
    let time = order.time;
    if !day::slots()?.contains(&time) {
        return Err(ToolError::new("unknown time; check_availability returns the free times")
            .with_code("NO_SUCH_SLOT"));
    }
    // The number comes first. If the agent repeats the tool call, for example after a
    // timeout, it gets the same number.
    let mine = format!("call/{}/booking/{}/{}/{time}", call.id(), day.date, day.service);
    let number = match kv::get_json(&mine)? {
        Some(number) => number,
        None => {
            let new = kv::increment("bookings", 1)?;
            kv::update_json_for(&mine, day.kept_for, |old: Option<i64>| old.unwrap_or(new))?
        }
    };
    let booked = kv::update_json_for(&day.key(), day.kept_for, |booked: Option<Booked>| {
        let mut booked = booked.unwrap_or_default();
        booked.entry(time.clone()).or_insert(number);
        booked
    })?;
    if booked.get(&time) != Some(&number) {
        kv::delete(&mine)?;
        return Err(ToolError::new(
            "this time is taken; check_availability returns the free times",
        )
        .with_code("SLOT_TAKEN"));
    }
    Ok(Booking { date: day.date.to_string(), time, service: day.service, number })
}

plugboard_sdk::export!(Appointments: Tools);

#[cfg(test)]
mod tests;
