//! Two tools for voice agents: `check_availability` tells the free times of a day,
//! `book_appointment` books one.
//!
//! What is booked stands in the store under `booked/DATE/SERVICE`, each time with
//! the number of its booking. Which call has which number stands under the call's
//! id, so that it can be forgotten without giving the time to somebody else.

mod day;

use std::collections::BTreeMap;

use plugboard_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::day::Day;

/// The times of a day that are booked, and the numbers of their bookings.
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
        return Err(ToolError::new(
            "there is no such time; check_availability tells those there are",
        )
        .with_code("NO_SUCH_SLOT"));
    }
    // First the number: an agent that asks again, as after an answer that came too
    // late, comes with the same one.
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
        return Err(ToolError::new("this time is taken; check_availability tells the free ones")
            .with_code("SLOT_TAKEN"));
    }
    Ok(Booking { date: day.date.to_string(), time, service: day.service, number })
}

plugboard_sdk::export!(Appointments: Tools);

#[cfg(test)]
mod tests;
