//! The sample `appointments` with its own settings, used by agents.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tests::{PluginFolder, Server, ServerBuilder, ServerResponse, blackbox_fixture};
use tokio::task::JoinSet;

use super::{error, tool_request};

fn folder_with_sample() -> PluginFolder {
    let settings =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/appointments/appointments.toml");
    let settings = std::fs::read_to_string(settings).unwrap();
    assert!(settings.contains("enabled = false"));
    PluginFolder::new()
        .with_sample("40-appointments", "40-appointments")
        .with_settings("40-appointments", &settings.replace("enabled = false", ""))
}

async fn check(server: &Server, day: &str) -> Value {
    let body =
        tool_request("check_availability", "asks", &json!({"date": day, "service": "Check-Up"}));
    let answer = server.post_blackbox(body).await;
    assert_eq!(answer.status, 200);
    answer.body
}

async fn book(server: &Server, call: &str, day: &str, time: &str) -> ServerResponse {
    let arguments = json!({"date": day, "time": time, "service": "check-up"});
    server.post_blackbox(tool_request("book_appointment", call, &arguments)).await
}

/// Returns a day that can be booked. It depends on the date, so the test asks the plugin.
async fn first_day(server: &Server) -> String {
    let answer = server.post_blackbox(blackbox_fixture("tool.json")).await;
    let (status, message, code) = error(&answer);
    assert_eq!((status, code), (200, "INVALID_DATE"));
    let (_, last) = message.split_once(" to ").unwrap();
    last[.."2025-10-25".len()].to_owned()
}

#[tokio::test]
async fn booked_slot_is_unavailable_to_other_calls() {
    let folder = folder_with_sample();
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    let day = first_day(&server).await;
    let all = ["09:00", "09:30", "10:00", "10:30", "11:00", "14:00", "14:30", "15:00"];
    let expected = json!({"date": day, "service": "check-up", "slots": all});
    assert_eq!(check(&server, &day).await, expected);

    let booked = book(&server, "a", &day, "09:30").await;
    let expected = json!({"date": day, "time": "09:30", "service": "check-up", "number": 1});
    assert_eq!((booked.status, &booked.body), (200, &expected));
    let remaining: Vec<_> = all.into_iter().filter(|slot| *slot != "09:30").collect();
    assert_eq!(check(&server, &day).await["slots"], json!(remaining));
    // Another call cannot book the slot. The same call gets its booking again.
    let taken = book(&server, "b", &day, "09:30").await;
    assert_eq!((error(&taken).0, error(&taken).2), (200, "SLOT_TAKEN"));
    assert_eq!(book(&server, "a", &day, "09:30").await.body, expected);
    assert_eq!(error(&book(&server, "b", &day, "12:00").await).2, "NO_SUCH_SLOT");
    // Errors about invalid arguments do not quote them.
    for (arguments, code, says) in [
        (json!({"date": day}), "INVALID_ARGUMENTS", "`time`"),
        (json!({"date": 5, "time": "09:00"}), "INVALID_ARGUMENTS", "`date`"),
        (json!("Ada"), "INVALID_ARGUMENTS", "arguments"),
        (json!({"date": day, "time": "09:00", "service": "Ada"}), "NO_SUCH_SERVICE", "check-up"),
    ] {
        let answer = server.post_blackbox(tool_request("book_appointment", "c", &arguments)).await;
        let (status, message, found) = error(&answer);
        assert_eq!((status, found), (200, code), "{arguments}: {message}");
        assert!(message.contains(says) && !message.contains("Ada"), "{message}");
    }
}

/// Ten calls book the same slot at the same time, and one of them succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_bookings_succeed_once() {
    let folder = folder_with_sample();
    let server = Arc::new(ServerBuilder::new(folder.path()).enable_blackbox().start());
    let day = first_day(&server).await;
    let mut all = JoinSet::new();
    for call in 0..10 {
        let (server, day) = (server.clone(), day.clone());
        all.spawn(async move { book(&server, &format!("call-{call}"), &day, "10:00").await });
    }
    let mut codes: Vec<_> = Vec::new();
    for answer in all.join_all().await {
        assert_eq!(answer.status, 200);
        codes.push(answer.body["errorCode"].as_str().unwrap_or("booked").to_owned());
    }
    assert_eq!(codes.iter().filter(|code| *code == "booked").count(), 1, "{codes:?}");
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), 2, "{codes:?}");
    let slots = check(&server, &day).await["slots"].to_string();
    assert!(!slots.contains("10:00"), "{slots}");
}
