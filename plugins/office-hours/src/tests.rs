//! Tests with an office in Rome and a fixed time.

use plugboard_sdk::Verdict;
use plugboard_sdk::testing::Host;

use super::*;

const HOURS: &str = r#"{
    "monday": "09:00-13:00, 14:00-18:00",
    "friday": "22:00-02:00",
    "saturday": "00:00-00:30, 18:00-24:00",
    "sunday": "01:30-04:00"
}"#;

fn host() -> Host {
    Host::new().with_config("time_zone", "Europe/Rome").with_config("hours", HOURS)
}

/// Returns the decision at a local time in Rome, such as `2026-07-06T09:00`. A time that the
/// clock shows twice has an offset, such as `2026-10-25T02:30+01:00`.
fn decide(host: &Host, time: &str) -> Decision {
    let (time, offset) = time.split_once('+').map_or((time, None), |(t, o)| (t, Some(o)));
    let zoned = match offset {
        Some(offset) => format!("{time}+{offset}[Europe/Rome]"),
        None => format!("{time}[Europe/Rome]"),
    };
    let now = zoned.parse::<jiff::Zoned>().unwrap().timestamp();
    host.run(|| decide_at(now)).unwrap()
}

fn is_open(time: &str) -> bool {
    decide(&host(), time).verdict() == &Verdict::Pass
}

fn ttl(time: &str) -> Duration {
    let decision = decide(&host(), time);
    let (ttl, vary) = decision.cache().unwrap();
    assert!(vary.is_empty());
    ttl
}

#[test]
fn calls_are_passed_during_hours() {
    // 2026-07-06 is a Monday.
    for (time, open) in [
        ("08:59:59", false),
        ("09:00", true),
        ("12:59:59", true),
        ("13:00", false),
        ("14:00", true),
        ("18:00", false),
    ] {
        assert_eq!(is_open(&format!("2026-07-06T{time}")), open, "{time}");
    }
    // 2026-07-07 is a Tuesday, which has no hours.
    assert!(!is_open("2026-07-07T10:00"));
}

#[test]
fn hours_can_end_at_midnight_or_next_day() {
    for (time, open) in [
        ("2026-07-10T21:59", false),
        ("2026-07-10T22:00", true),
        ("2026-07-11T00:10", true),
        ("2026-07-11T01:59", true),
        ("2026-07-11T02:00", false),
        ("2026-07-11T23:59:59", true),
        ("2026-07-12T00:00", false),
    ] {
        assert_eq!(is_open(time), open, "{time}");
    }
}

#[test]
fn holiday_is_closed_except_for_previous_night() {
    let host = host().with_config("holidays", r#"["2026-07-06", "2026-07-11"]"#);
    for (time, open) in [
        ("2026-07-06T10:00", false),
        ("2026-07-13T10:00", true),
        ("2026-07-11T01:00", true),
        ("2026-07-11T20:00", false),
    ] {
        assert_eq!(decide(&host, time).verdict() == &Verdict::Pass, open, "{time}");
    }
}

#[test]
fn hours_follow_clock_changes() {
    for (time, open) in [
        // The clock skips the time from 02:00 to 03:00.
        ("2026-03-29T01:29", false),
        ("2026-03-29T01:59", true),
        ("2026-03-29T03:00", true),
        ("2026-03-29T04:00", false),
        // The clock shows the time from 02:00 to 03:00 twice.
        ("2026-10-25T01:30", true),
        ("2026-10-25T02:30+02:00", true),
        ("2026-10-25T02:30+01:00", true),
        ("2026-10-25T03:59", true),
        ("2026-10-25T04:00", false),
    ] {
        assert_eq!(is_open(time), open, "{time}");
    }
    // One week has summer time, the other has winter time.
    for monday in ["2026-03-23", "2026-03-30"] {
        assert!(!is_open(&format!("{monday}T08:59:59")), "{monday}");
        assert!(is_open(&format!("{monday}T09:00")), "{monday}");
    }
}

#[test]
fn decision_is_cached_until_hours_change() {
    assert_eq!(ttl("2026-07-06T10:00"), LONGEST);
    assert_eq!(ttl("2026-07-06T12:58"), Duration::from_secs(120));
    assert_eq!(ttl("2026-07-06T12:59:59.900"), SHORTEST);
    assert_eq!(ttl("2026-07-06T13:00"), LONGEST);
    assert_eq!(ttl("2026-07-10T23:59"), Duration::from_secs(60));
    assert_eq!(ttl("2026-07-08T00:00"), LONGEST);
}

#[test]
fn open_prompt_accepts_call() {
    let host = host().with_config("open_prompt", "Be kind.");
    let decision = decide(&host, "2026-07-06T10:00");
    let verdict = Verdict::Route { sts_url: None, prompt: Some("Be kind.".to_owned()) };
    assert_eq!(decision.verdict(), &verdict);
}

#[test]
fn closed_settings_determine_verdict() {
    let closed = "2026-07-07T10:00";
    let reason = |text: &str| Verdict::Reject { reason: text.to_owned() };
    assert_eq!(decide(&host(), closed).verdict(), &reason("The office is closed."));
    let host = host().with_config("closed_message", "Tomorrow.");
    assert_eq!(decide(&host, closed).verdict(), &reason("Tomorrow."));

    let host = host.with_config("closed", "prompt").with_config("closed_prompt", "Say so.");
    let prompt = Some("Say so.".to_owned());
    let verdict = Verdict::Route { sts_url: None, prompt: prompt.clone() };
    assert_eq!(decide(&host, closed).verdict(), &verdict);
    let host = host.with_config("closed_sts_url", "ws://closed/");
    let verdict = Verdict::Route { sts_url: Some("ws://closed/".to_owned()), prompt };
    assert_eq!(decide(&host, closed).verdict(), &verdict);
}

#[test]
fn invalid_settings_are_named_with_expected_value() {
    for (key, value, message) in [
        (
            "time_zone",
            "Rome",
            "[config] `time_zone`: unknown time zone `Rome`; expected a name such as Europe/Rome",
        ),
        ("closed", "hang up", "[config] `closed`: `hang up` is neither `reject` nor `prompt`"),
        ("closed", "prompt", "[config] has no `closed_prompt`"),
        (
            "holidays",
            r#"["2026-02-30"]"#,
            "[config] `holidays`: invalid date `2026-02-30`; expected a date such as 2026-12-25",
        ),
        (
            "hours",
            r#"{"monday":"9-18"}"#,
            "[config] `hours.monday`: invalid span `9-18`; expected a span such as 09:00-18:00",
        ),
        (
            "hours",
            r#"{"sunday":"09:00-18:00, 24:00-02:00"}"#,
            "[config] `hours.sunday`: invalid span `24:00-02:00`; expected a span such as 09:00-18:00",
        ),
        (
            "hours",
            r#"{"monday":"09:00-09:00"}"#,
            "[config] `hours.monday`: `09:00-09:00` ends at its start time; use 00:00-24:00 for a whole day",
        ),
    ] {
        let error = host().with_config(key, value).decide::<OfficeHours>(&Call::new("1"));
        assert_eq!(error.unwrap_err().to_string(), message);
    }
    for times in ["09:60-18:00", "09:00-24:01", "+9:00-18:00", "09:0-18:00", "09:00-12:00-13:00"] {
        let hours = format!(r#"{{"monday":"{times}"}}"#);
        let error = host().with_config("hours", hours).decide::<OfficeHours>(&Call::new("1"));
        assert!(error.unwrap_err().to_string().contains("invalid span"), "{times}");
    }
    let hours = r#"{"mondey":"09:00-18:00"}"#;
    let error = host().with_config("hours", hours).decide::<OfficeHours>(&Call::new("1"));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("[config] `hours`: unknown field `mondey`, expected"), "{error}");
    let host = Host::new().with_config("time_zone", "Europe/Rome");
    let error = host.decide::<OfficeHours>(&Call::new("1")).unwrap_err().to_string();
    assert_eq!(error, "[config] has no `hours`, a table of days");
}

#[test]
fn decision_uses_real_clock() {
    let hours = r#"{"monday":"00:00-24:00","tuesday":"00:00-24:00","wednesday":"00:00-24:00",
        "thursday":"00:00-24:00","friday":"00:00-24:00","saturday":"00:00-24:00",
        "sunday":"00:00-24:00"}"#;
    let host = host().with_config("hours", hours);
    assert_eq!(host.decide::<OfficeHours>(&Call::new("1")).unwrap().verdict(), &Verdict::Pass);
}
