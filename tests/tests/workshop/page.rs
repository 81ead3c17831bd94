//! The admin page in a real browser: contents, use by keyboard, accessibility, and safety
//! against hostile text. The tests report that they are skipped if no browser is installed.

use std::fs;

use serde_json::{Value, json};
use tests::{
    Browser, PluginFolder, ROUTING_GUEST, ServerBuilder, call_initiated, call_initiated_for, event,
    user_transcription,
};

/// Hostile text: markup, the end of a script, a change of the writing direction and a control
/// character.
const HOSTILE: &str = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u{202e}\u{7}";

/// End of [`HOSTILE`] as the page shows it, with escapes.
const HOSTILE_END: &str = "</script>\\u202e\\u0007";

/// Message of the browser's console for an error response that the test expects.
const ERROR_RESPONSE: &str = "Failed to load resource: the server responded with a status of";

/// Returns a `call_initiated` with hostile text in all fields.
fn hostile_call() -> String {
    let payload = json!({"from": HOSTILE, "to": HOSTILE, HOSTILE: HOSTILE});
    event(HOSTILE, "call_initiated", 0, &payload)
}

/// Selector of the rows in the table of decisions.
const ROWS: &str = "#decision-table tbody tr";

#[tokio::test]
async fn page_shows_live_decisions_and_masks_numbers_by_default() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("before", "5001")).await;

    browser.open_live(&server);
    // The page shows recent decisions at once, and new decisions as they happen.
    browser.wait_for_text(ROWS, "before");
    server.post(call_initiated_for("live", "5001")).await;
    let row = browser.wait_for_text(ROWS, "live");
    for word in ["avr", "routed", "10-good", "•••• 00", "•••• 01"] {
        assert!(row.contains(word), "no {word}: {row}");
    }
    assert!(!row.contains("2000") && !row.contains("5001"), "{row}");
    assert_eq!(browser.count(ROWS), 2);

    browser.click("Show numbers");
    let row = browser.wait_for_text(ROWS, "5001");
    assert!(row.contains("2000"), "{row}");
    // Reloading the page masks the numbers again.
    browser.open_live(&server);
    let row = browser.wait_for_text(ROWS, "live");
    assert!(row.contains("•••• 01") && !row.contains("5001"), "{row}");

    browser.click("Copy the id of call live");
    browser.wait_for_text("#toast", "copied");
    assert_eq!(browser.send_command("clipboard", &json!({})), "live");

    // A paused page does not add new decisions.
    browser.click("Pause");
    server.post(call_initiated_for("later", "5001")).await;
    browser.wait_for_text("#live-hint", "paused, 1 newer");
    assert_eq!(browser.count(ROWS), 2);
    browser.click("Pause");
    browser.wait_for_text(ROWS, "later");

    // The page removes the decisions of an erased call.
    assert_eq!(server.admin_delete("/calls/live", &[]).await.status, 200);
    browser.wait_until_gone(ROWS, "live");

    let filter = "Show only decisions that contain";
    browser.fill("searchbox", filter, "BEFORE");
    browser.wait_until_gone(ROWS, "later");
    browser.wait_for_text(ROWS, "before");
    browser.fill("searchbox", filter, "no such text");
    browser.wait_for_text("#decision-table", "No decision contains this text");
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn page_shows_plugin_state_changes_after_reload() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    browser.open_live(&server);
    browser.wait_for_text("#health", "no problems");
    let state = |name: &str, state: &str| format!("tbody[data-key='{name}'][data-state='{state}']");
    browser.wait_for_text(&state("10-good", "active"), "decides");

    let badge_colour = |browser: &mut Browser, selector: &str| {
        let style = json!({"at": format!("{selector} .badge"), "name": "color"});
        let text = browser.send_command("style", &style).to_string();
        let parts = text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        parts.collect::<Vec<u32>>()
    };
    let green = badge_colour(&mut browser, &state("10-good", "active"));
    assert!(green[1] > green[0], "{green:?}");

    // A new plugin is broken, and no other version of it serves.
    let part_file = folder.file("20-new", "part");
    fs::write(&part_file, b"no component").unwrap();
    fs::rename(&part_file, folder.file("20-new", "wasm")).unwrap();
    let text = browser.wait_for_text(&state("20-new", "broken"), "broken");
    assert!(text.contains("at compile"), "{text}");
    let message =
        server.plugin_status("20-new").await["last_error"]["message"].as_str().unwrap().to_owned();
    let first_line = message.lines().next().unwrap();
    assert!(text.contains(first_line), "{first_line}: {text}");
    let red = badge_colour(&mut browser, &state("20-new", "broken"));
    assert!(red[0] > red[1] + 40, "{red:?}");
    browser.wait_for_text("#problems", "20-new");
    browser.wait_for_text("#health", "1 problem");
    browser.wait_for_text("#reload-list", "broken");

    // An update fails. The previous version still serves, and the page shows both facts.
    folder.replace_settings("10-good", "no such = 'setting'");
    let text = browser.wait_for_text(&state("10-good", "stale"), "update failed");
    assert!(text.contains("at settings") && text.contains("10-good.toml:1: "), "{text}");
    assert!(server.post(call_initiated()).await.sts_url().is_some());

    // After a repair, both plugins are active again.
    folder.replace_settings("10-good", "");
    folder.replace_guest("20-new", "alpha");
    browser.wait_for_text(&state("10-good", "active"), "active");
    browser.wait_for_text(&state("20-new", "active"), "active");
    browser.wait_for_text("#health", "no problems");
    browser.wait_until_gone("#problems", "20-new");
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn page_shows_hostile_input_as_text() {
    let Some(mut browser) = Browser::start() else { return };
    let error = format!("[config]\nrules = '''* * error {}'''\n", HOSTILE.replace('\u{7}', ""));
    let folder =
        PluginFolder::new().with_guest("10-echo", "rules").with_settings("10-echo", &error);
    let folder = folder
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", "[config]\ndo = 'error'\n[events]\nkinds = ['started']\n");
    let folder = folder.with_bytes("<img src=x onerror=alert(3)>", b"no component");
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "10ms")
        .start();
    browser.open_live(&server);
    server.post(hostile_call()).await;
    server.post(event(HOSTILE, "call_started", 1, &json!({HOSTILE: HOSTILE}))).await;
    let mut tool = tests::blackbox_document("tool.json", HOSTILE);
    tool["toolName"] = json!(HOSTILE);
    server.post_blackbox(tool.to_string()).await;

    // The text is in decisions, a plugin's error and name, events, calls and dead letters.
    browser.wait_for_text(ROWS, "<img src");
    browser.wait_for_text("#plugins .untrusted", HOSTILE_END.trim_end_matches("\\u0007"));
    browser.wait_for_text("#plugins tbody", "onerror=alert(3)");
    browser.wait_for_text("#event-list li", "<img src");
    browser.wait_for_text("#call-list summary", "<img src");
    browser.wait_for_text("#dead-list tr", "<img src");
    // An opened call shows the whole text and its numbers.
    browser.click("Show numbers");
    browser.send_command("click", &json!({"at": "#call-list summary"}));
    browser.wait_for_text("#call-list details", HOSTILE_END);
    // The text is in an explanation as well.
    let body = "Body of the webhook that the platform sends at the start of a call";
    browser.fill("textbox", body, &hostile_call());
    browser.click("Explain");
    browser.wait_for_text("#explanation .untrusted", "<img src=x onerror=alert(1)>");

    assert_eq!(browser.count("img, iframe, object, [onerror], [style]"), 0);
    assert_eq!(browser.count("script"), 1);
    assert_eq!(browser.send_command("overflow", &json!({})), 0);
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn page_explains_call_by_plugin() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new()
        .with_guest("10-other", ROUTING_GUEST)
        .with_settings("10-other", "[match]\nto = '6*'\n")
        .with_guest("20-fails", "rules")
        .with_settings("20-fails", "[config]\nrules = '* * error out of coffee'\n")
        .with_guest("30-passes", "passes")
        .with_guest("40-good", ROUTING_GUEST)
        .with_guest("50-late", "alpha");
    let server = ServerBuilder::new(folder.path()).enable_blackbox().start();
    browser.open_live(&server);
    browser.click("Insert an AVR example");
    browser.click("Explain");
    browser.wait_for_text("#explanation", "routed by 40-good");
    let steps = browser.wait_for_text("#explanation ol", "50-late");
    let parts = ["10-other does not match", "20-fails", "failed", "out of coffee", "30-passes"];
    for part in parts.iter().chain(&["pass", "40-good", "ws://sts-good", "50-late did not run"]) {
        assert!(steps.contains(part), "no {part}: {steps}");
    }
    browser.wait_for_text("#explanation pre", "sts_url");

    browser.click("Insert a BlackBox example");
    browser.press("Control+Enter");
    browser.wait_for_text("#explanation", "as blackbox");

    let body = "Body of the webhook that the platform sends at the start of a call";
    browser.fill("textbox", body, "{\"uuid\": 1}");
    browser.click("Explain");
    browser.wait_for_text("#explanation", "cannot be explained");
    browser.wait_for_text("#explanation .untrusted", "uuid");
    assert_eq!(browser.unexpected_complaints(&server, &[ERROR_RESPONSE]), [""; 0]);
}

#[tokio::test]
async fn page_redrives_and_purges_dead_letters() {
    let Some(mut browser) = Browser::start() else { return };
    let settings = |action: &str| format!("[config]\ndo = '{action}'\n");
    let folder = PluginFolder::new()
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &settings("error"));
    let server = ServerBuilder::new(folder.path())
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "10ms")
        .start();
    browser.open_live(&server);
    browser.wait_for_text("#dead-list", "None.");
    for nth in 0..3 {
        server.post(user_transcription(&format!("call-{nth}"), nth, "not for the page")).await;
    }
    let row = browser.wait_for_text("#dead-list tr", "call-2");
    assert!(row.contains("failed as configured") && row.contains("transcription"), "{row}");
    browser.wait_for_text("#problems", "3 events");
    browser.wait_until_gone("body", "not for the page");

    folder.replace_settings("50-observer", &settings("nothing"));
    server.reload().await;
    let letters = server.admin_get("/events/dead").await.body["dead_letters"].clone();
    // The ids follow the order of dead-lettering, which is not fixed between calls.
    let id = |call: &str| {
        let of_call = |letter: &&Value| letter["call"] == call;
        letters.as_array().unwrap().iter().find(of_call).unwrap()["id"].to_string()
    };
    browser.click(&format!("Redrive event {}", id("call-0")));
    browser.wait_for_text("#toast", "1 event redriven");
    browser.wait_until_gone("#dead-list tr", "call-0");

    // A purge needs a confirmation, which Escape cancels.
    let purge = format!("Purge event {}", id("call-1"));
    browser.click(&purge);
    browser.wait_for_text("#confirm-dialog", "cannot be redriven");
    browser.press("Escape");
    browser.wait_until_gone("#confirm-dialog", "cannot");
    browser.wait_for_text("#dead-list tr", "call-1");
    browser.click(&purge);
    browser.click("Purge");
    browser.wait_until_gone("#dead-list tr", "call-1");

    browser.click("Redrive 1 dead letter of 50-observer");
    browser.wait_for_text("#dead-list", "None.");
    assert_eq!(server.admin_get("/events/dead").await.body["dead_letters"], json!([]));
    browser.wait_for_text("#health", "no problems");
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn timeline_opens_with_keyboard_only() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server = ServerBuilder::new(folder.path()).start();
    server.post(call_initiated_for("keyboard-call", "5001")).await;
    server.post(event("keyboard-call", "call_started", 1, &json!({}))).await;
    browser.open_live(&server);
    browser.wait_for_text("#call-list summary", "keyboard-call");

    browser.press("Tab");
    let focused = |browser: &mut Browser| -> String {
        browser.send_command("focused", &json!({})).as_str().unwrap().to_owned()
    };
    assert_eq!(focused(&mut browser), "a: Skip to the plugins");
    let mut steps = 0;
    while !focused(&mut browser).starts_with("summary: ") {
        browser.press("Tab");
        steps += 1;
        assert!(steps < 60, "the call cannot be reached: {}", focused(&mut browser));
    }
    browser.wait_until_gone("#call-list .timeline", "routed");
    browser.press("Enter");
    browser.wait_for_text("#call-list .timeline", "routed");
    browser.wait_for_text("#call-list .timeline", "started");
    // An update of the page keeps the timeline open and does not move the focus.
    server.post(user_transcription("keyboard-call", 2, "not for the page")).await;
    browser.wait_for_text("#call-list .timeline", "transcription");
    assert!(focused(&mut browser).contains("3 steps"));
    browser.wait_until_gone("body", "not for the page");
    browser.press("Escape");
    browser.wait_until_gone("#call-list .timeline", "routed");
    assert!(focused(&mut browser).contains("3 steps"));

    // The button of a decision opens the timeline of its call.
    browser.send_command(
        "focus",
        &json!({"role": "button", "name": "Timeline of call keyboard-call"}),
    );
    browser.press("Enter");
    browser.wait_for_text("#call-list .timeline", "routed");
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn page_keeps_admin_token_in_tab_only() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let server =
        ServerBuilder::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "open-sesame").start();
    browser.open(&server);
    browser.wait_for_text("#token-dialog", "admin token");
    assert_eq!(browser.count("#plugins tbody"), 0);
    browser.fill("textbox", "Token", "guess");
    browser.press("Enter");
    browser.wait_for_text("#token-dialog", "token is invalid");
    browser.fill("textbox", "Token", "open-sesame");
    browser.click("Connect");
    browser.wait_for_text("#health", "live");
    browser.wait_for_text("#plugins tbody", "10-good");
    // The tab keeps the token after a reload. Storage that outlives the tab does not have it.
    browser.open_live(&server);
    assert!(!browser.send_command("storage", &json!({})).to_string().contains("sesame"));
    assert_eq!(browser.unexpected_complaints(&server, &[ERROR_RESPONSE]), [""; 0]);
}

#[tokio::test]
async fn page_reports_lost_connection_and_reconnects() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let mut server = ServerBuilder::new(folder.path()).start();
    browser.open_live(&server);
    server.post(call_initiated_for("before", "5001")).await;
    browser.wait_for_text(ROWS, "before");
    let address = server.admin_address().to_owned();
    server.kill();
    browser.wait_for_text("#toast", "Connection lost");
    browser.wait_for_text("#health", "connection lost");
    // The data may be outdated, so the page does not report good health.
    browser.wait_until_gone("#health", "no problems");

    let server = ServerBuilder::new(folder.path()).with_admin_address(&address).start();
    browser.wait_for_text("#health", "live");
    browser.wait_for_text("#health", "no problems");
    server.post(call_initiated_for("after", "5001")).await;
    browser.wait_for_text(ROWS, "after");
    browser.wait_for_text(ROWS, "before");
    // Requests failed or were interrupted while the server was down.
    assert_eq!(browser.unexpected_complaints(&server, &["net::ERR_"]), [""; 0]);
}

/// Shows all parts of the page at two widths in two colour schemes, audits them, and takes
/// screenshots.
#[tokio::test]
async fn page_passes_accessibility_audit_on_phone_and_desktop() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new()
        .with_sample("05-office-hours", "05-office-hours")
        .with_settings("05-office-hours", "enabled = false\n")
        .with_guest("10-flaky", "rules")
        .with_settings("10-flaky", "[config]\nrules = '* * error the CRM said 502'\n")
        .with_sample("20-number-plan", "10-number-plan")
        .with_settings("20-number-plan", "[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n")
        .with_bytes("30-broken", b"no component")
        .with_guest("40-tools", "tools")
        .with_settings("40-tools", "[config]\ndo = 'answer'\n")
        .with_guest("50-rejects", "rejects")
        .with_settings("50-rejects", "[match]\nto = '9*'\n")
        .with_guest("60-observer", "observer")
        .with_settings("60-observer", "[config]\ndo = 'error'\n[events]\nkinds = ['started']\n");
    let server = ServerBuilder::new(folder.path())
        .enable_blackbox()
        .env("PLUGBOARD_EVENTS_MAX_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_INITIAL_BACKOFF", "10ms")
        .start();
    browser.open_live(&server);
    browser.wait_for_text("#decision-table", "No call yet");
    browser.send_command("screenshot", &json!({"name": "1280-empty"}));
    for (nth, to) in (0..14).zip(["5001", "7001", "9001"].into_iter().cycle()) {
        let call = format!("935652e3-7c59-4edc-b17f-{nth:012}");
        server.post(call_initiated_for(&call, to)).await;
        server.post(event(&call, "call_started", nth, &json!({}))).await;
        server.post(user_transcription(&call, nth, "not for the page")).await;
    }
    let tool = tests::blackbox_document("tool.json", "call_abc123def456");
    server.post_blackbox(tool.to_string()).await;
    server.post(hostile_call()).await;
    browser.wait_for_text("#plugins tbody", "circuit open");
    browser.wait_for_text("#dead-list tr", "failed as configured");
    browser.wait_for_text(ROWS, "rejected");
    browser.wait_for_text("#call-list summary", "<img src");
    browser.click("Insert an AVR example");
    browser.click("Explain");
    browser.wait_for_text("#explanation pre", "sts_url");
    browser.send_command("click", &json!({"at": "#call-list summary", "text": "935652e3"}));
    browser.wait_for_text("#call-list .timeline", "transcription");

    for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")] {
        browser.send_command("look", &json!({"width": width, "scheme": scheme}));
        let audit = browser.send_command("audit", &json!({}));
        assert_eq!(audit, json!([]), "{width} {scheme}");
        assert_eq!(browser.send_command("overflow", &json!({})), 0, "{width} {scheme}");
        browser.send_command("screenshot", &json!({"name": format!("{width}-{scheme}")}));
    }
    // The user's choice of a theme overrides the system's theme.
    let background = |browser: &mut Browser| -> Value {
        browser.send_command("style", &json!({"at": "body", "name": "backgroundColor"}))
    };
    let dark = background(&mut browser);
    browser.click("Theme: system");
    assert_ne!(background(&mut browser), dark, "light");
    browser.click("Theme: light");
    assert_eq!(background(&mut browser), dark);
    assert_eq!(browser.unexpected_complaints(&server, &[]), [""; 0]);
}
