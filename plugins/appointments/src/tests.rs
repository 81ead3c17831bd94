//! Tests of the tools with future days, because the plugin uses the real clock.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use plugboard_sdk::testing::Host;
use serde_json::{Value, json};

use super::*;

fn host() -> Host {
    Host::new()
        .with_config("services", "consultation, check-up")
        .with_config("slots", "09:00, 09:30, 10:00")
}

/// Returns the day that is `ahead` days after today; -1 is yesterday.
fn day(ahead: i64) -> String {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    today.checked_add(ahead.days()).unwrap().to_string()
}

fn check(host: &Host, arguments: Value) -> Result<Value, ToolError> {
    host.invoke::<Appointments>(&Call::new("c"), "check_availability", arguments)
}

fn book(host: &Host, call: &str, arguments: Value) -> Result<Value, ToolError> {
    host.invoke::<Appointments>(&Call::new(call).with_from("391"), "book_appointment", arguments)
}

fn slots(host: &Host, day: &str, service: &str) -> Value {
    check(host, json!({ "date": day, "service": service })).unwrap()["slots"].take()
}

fn code(result: Result<Value, ToolError>) -> String {
    result.unwrap_err().code().unwrap().to_owned()
}

#[test]
fn booked_slot_is_not_available() {
    let (host, day) = (host(), day(7));
    let booking = book(&host, "a", json!({ "date": day, "time": "09:30" })).unwrap();
    let expected = json!({ "date": day, "time": "09:30", "service": "consultation", "number": 1 });
    assert_eq!(booking, expected);
    let availability = check(&host, json!({ "date": day })).unwrap();
    let expected = json!({ "date": day, "service": "consultation", "slots": ["09:00", "10:00"] });
    assert_eq!(availability, expected);
    assert_eq!(slots(&host, &day, "Check-Up"), json!(["09:00", "09:30", "10:00"]));
    assert_eq!(code(book(&host, "b", json!({ "date": day, "time": "09:30" }))), "SLOT_TAKEN");
    assert_eq!(slots(&host, &day, "consultation"), json!(["09:00", "10:00"]));
}

#[test]
fn same_call_books_time_once() {
    let (host, order) = (host(), json!({ "date": day(7), "time": "09:00" }));
    let first = book(&host, "a", order.clone()).unwrap();
    assert_eq!(book(&host, "a", order.clone()).unwrap(), first);
    // The operator erases the call; the time stays booked.
    assert_eq!(code(book(&host, "b", order.clone())), "SLOT_TAKEN");
    let mine = format!("call/a/booking/{}/consultation/09:00", day(7));
    assert!(host.kv(&mine).is_some());
    assert!(host.kv(&mine.replace("/a/", "/b/")).is_none());
    host.run(|| kv::delete(&mine)).unwrap();
    assert_eq!(code(book(&host, "b", order)), "SLOT_TAKEN");
}

#[test]
fn concurrent_bookings_are_all_stored() {
    let (host, day) = (host().with_contention(3), day(7));
    let key = format!("booked/{day}/consultation");
    book(&host, "a", json!({ "date": day, "time": "09:00" })).unwrap();
    assert_eq!(host.kv(&key).unwrap(), br#"{"09:00":1}"#);
    book(&host, "b", json!({ "date": day, "time": "10:00" })).unwrap();
    assert_eq!(host.kv(&key).unwrap(), br#"{"09:00":1,"10:00":2}"#);
}

#[test]
fn bookings_expire_after_their_day() {
    let (host, day) = (host(), day(2));
    book(&host, "a", json!({ "date": day, "time": "09:00" })).unwrap();
    let key = format!("booked/{day}/consultation");
    host.advance(Duration::from_secs(2 * 24 * 3600));
    assert!(host.kv(&key).is_some());
    host.advance(Duration::from_secs(2 * 24 * 3600));
    assert!(host.kv(&key).is_none());
}

#[test]
fn errors_name_valid_choices() {
    let host = host().with_config("days_ahead", "10");
    for date in [&*day(-1), &day(0), &day(11), "2024-01-01", "2026-02-30", "tomorrow", "391"] {
        let error = check(&host, json!({ "date": date })).unwrap_err();
        assert_eq!(error.code(), Some("INVALID_DATE"), "{date}");
        let message =
            format!("`date` should be a day from {} to {}, such as {}", day(1), day(10), day(1));
        assert_eq!(error.message(), message);
    }
    check(&host, json!({ "date": day(1) })).unwrap();
    check(&host, json!({ "date": day(10) })).unwrap();

    let error = check(&host, json!({ "date": day(1), "service": "Ada" })).unwrap_err();
    assert_eq!(error.message(), "unknown service; the services are: consultation, check-up");
    assert_eq!(error.code(), Some("NO_SUCH_SERVICE"));
    assert_eq!(code(book(&host, "a", json!({ "date": day(1), "time": "9" }))), "NO_SUCH_SLOT");
    let error = book(&host, "a", json!({ "date": day(1) })).unwrap_err();
    assert_eq!(error.message(), "invalid arguments: `time` is missing");
}

#[test]
fn tool_results_are_not_cacheable() {
    let host = host();
    assert_eq!(host.tool_names::<Appointments>(), ["check_availability", "book_appointment"]);
    for name in host.tool_names::<Appointments>() {
        assert_eq!(host.tool_cache::<Appointments>(&name), None);
    }
}

#[test]
fn missing_setting_or_grant_is_logged() {
    let host = Host::new().with_config("services", "consultation");
    let error = check(&host, json!({ "date": day(1) })).unwrap_err();
    assert_eq!(error.cause(), Some("[config] has no `slots`"));
    let error = check(&host.without_kv(), json!({ "date": day(1) })).unwrap_err();
    assert!(error.cause().unwrap().contains("kv = true"), "{error:?}");
}
