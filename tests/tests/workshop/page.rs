//! The page of the admin listener in a real browser: what an operator sees, by eye and by
//! keyboard, and what nobody's text can make of it. Skipped, with a word, where there is no
//! browser.

use std::fs;

use serde_json::{Value, json};
use tests::{Browser, GOOD, PluginFolder, Setup, event, initiated, initiated_as, said};

/// Text as somebody sends it who would like it to be more than text: markup, the end of a
/// script, a switch of the writing direction, control characters.
const HOSTILE: &str = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u{202e}\u{7}";

/// What the page makes of its end.
const HOSTILE_END: &str = "</script>\\u202e\\u0007";

/// What the browser says when a server answers with an error that the test asked for.
const REFUSED: &str = "Failed to load resource: the server responded with a status of";

/// Of a call that is hostile in every name.
fn hostile_call() -> String {
    let payload = json!({"from": HOSTILE, "to": HOSTILE, HOSTILE: HOSTILE});
    event(HOSTILE, "call_initiated", 0, &payload)
}

/// The decisions that are shown.
const ROWS: &str = "#decision-table tbody tr";

#[tokio::test]
async fn decisions_appear_as_they_are_made_and_numbers_are_masked_until_unlocked() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().guest("10-good", GOOD);
    let server = Setup::new(folder.path()).start();
    server.post(initiated_as("before", "5001")).await;

    browser.follow(&server);
    // What happened lately is there at once, what happens now a moment later.
    browser.see(ROWS, "before");
    server.post(initiated_as("live", "5001")).await;
    let row = browser.see(ROWS, "live");
    for word in ["avr", "routed", "10-good", "•••• 00", "•••• 01"] {
        assert!(row.contains(word), "no {word}: {row}");
    }
    assert!(!row.contains("2000") && !row.contains("5001"), "{row}");
    assert_eq!(browser.count(ROWS), 2);

    browser.click("Show numbers");
    let row = browser.see(ROWS, "5001");
    assert!(row.contains("2000"), "{row}");
    // They are masked again as soon as the page is loaded again.
    browser.follow(&server);
    let row = browser.see(ROWS, "live");
    assert!(row.contains("•••• 01") && !row.contains("5001"), "{row}");

    browser.click("Copy the id of call live");
    browser.see("#toast", "copied");
    assert_eq!(browser.order("clipboard", &json!({})), "live");

    // Who reads is not interrupted.
    browser.click("Pause");
    server.post(initiated_as("later", "5001")).await;
    browser.see("#live-hint", "paused, 1 newer");
    assert_eq!(browser.count(ROWS), 2);
    browser.click("Pause");
    browser.see(ROWS, "later");

    // What is forgotten is not shown any longer.
    assert_eq!(server.admin_delete("/calls/live", &[]).await.status, 200);
    browser.gone(ROWS, "live");

    let filter = "Show only decisions that contain";
    browser.fill("searchbox", filter, "BEFORE");
    browser.gone(ROWS, "later");
    browser.see(ROWS, "before");
    browser.fill("searchbox", filter, "nobody");
    browser.see("#decision-table", "No decision has that in it");
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn a_broken_plugin_turns_red_and_back() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().guest("10-good", GOOD);
    let server = Setup::new(folder.path()).start();
    browser.follow(&server);
    browser.see("#health", "all is well");
    let state = |name: &str, state: &str| format!("tbody[data-key='{name}'][data-state='{state}']");
    browser.see(&state("10-good", "active"), "decides");

    let colour = |browser: &mut Browser, at: &str| {
        let style = json!({"at": format!("{at} .badge"), "name": "color"});
        let text = browser.order("style", &style).to_string();
        let parts = text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok());
        parts.collect::<Vec<u32>>()
    };
    let green = colour(&mut browser, &state("10-good", "active"));
    assert!(green[1] > green[0], "{green:?}");

    // A new one that is broken: nothing serves in its place.
    let copied = folder.file("20-new", "part");
    fs::write(&copied, b"no component").unwrap();
    fs::rename(&copied, folder.file("20-new", "wasm")).unwrap();
    let text = browser.see(&state("20-new", "broken"), "broken");
    assert!(text.contains("at compile"), "{text}");
    let told = server.plugin("20-new").await["last_error"]["message"].as_str().unwrap().to_owned();
    let first = told.lines().next().unwrap();
    assert!(text.contains(first), "{first}: {text}");
    let red = colour(&mut browser, &state("20-new", "broken"));
    assert!(red[0] > red[1] + 40, "{red:?}");
    browser.see("#problems", "20-new");
    browser.see("#health", "1 thing to look at");
    browser.see("#reload-list", "broken");

    // An update that is refused: the version before serves on, and that is said, too.
    folder.configure("10-good", "no such = 'setting'");
    let text = browser.see(&state("10-good", "refused"), "update refused");
    assert!(text.contains("at settings") && text.contains("10-good.toml:1: "), "{text}");
    assert!(server.post(initiated()).await.sts_url().is_some());

    // And back.
    folder.configure("10-good", "");
    folder.replace("20-new", "alpha");
    browser.see(&state("10-good", "active"), "active");
    browser.see(&state("20-new", "active"), "active");
    browser.see("#health", "all is well");
    browser.gone("#problems", "20-new");
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn what_strangers_write_stays_text() {
    let Some(mut browser) = Browser::start() else { return };
    let error = format!("[config]\nrules = '''* * error {}'''\n", HOSTILE.replace('\u{7}', ""));
    let folder = PluginFolder::new().guest("10-echo", "rules").settings("10-echo", &error);
    let folder = folder
        .guest("50-observer", "observer")
        .settings("50-observer", "[config]\ndo = 'error'\n[events]\nkinds = ['started']\n");
    let folder = folder.bytes("<img src=x onerror=alert(3)>", b"no component");
    let server = Setup::new(folder.path())
        .blackbox()
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_BACKOFF", "10ms")
        .start();
    browser.follow(&server);
    server.post(hostile_call()).await;
    server.post(event(HOSTILE, "call_started", 1, &json!({HOSTILE: HOSTILE}))).await;
    let mut tool = tests::blackbox_document("tool.json", HOSTILE);
    tool["toolName"] = json!(HOSTILE);
    server.blackbox(tool.to_string()).await;

    // As a call and a plugin's error, as a plugin's name, among events, calls and dead letters.
    browser.see(ROWS, "<img src");
    browser.see("#plugins .said", HOSTILE_END.trim_end_matches("\\u0007"));
    browser.see("#plugins tbody", "onerror=alert(3)");
    browser.see("#event-list li", "<img src");
    browser.see("#call-list summary", "<img src");
    browser.see("#dead-list tr", "<img src");
    // Whole, where it is opened, with its numbers.
    browser.click("Show numbers");
    browser.order("click", &json!({"at": "#call-list summary"}));
    browser.see("#call-list details", HOSTILE_END);
    // And in what is explained.
    let body = "The body of the webhook, as the platform would send it when a call begins";
    browser.fill("textbox", body, &hostile_call());
    browser.click("Explain");
    browser.see("#explanation .said", "<img src=x onerror=alert(1)>");

    assert_eq!(browser.count("img, iframe, object, [onerror], [style]"), 0);
    assert_eq!(browser.count("script"), 1);
    assert_eq!(browser.order("overflow", &json!({})), 0);
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn a_call_is_explained_plugin_by_plugin() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new()
        .guest("10-other", GOOD)
        .settings("10-other", "[match]\nto = '6*'\n")
        .guest("20-fails", "rules")
        .settings("20-fails", "[config]\nrules = '* * error out of coffee'\n")
        .guest("30-passes", "passes")
        .guest("40-good", GOOD)
        .guest("50-late", "alpha");
    let server = Setup::new(folder.path()).blackbox().start();
    browser.follow(&server);
    browser.click("Insert an AVR example");
    browser.click("Explain");
    browser.see("#explanation", "routed by 40-good");
    let steps = browser.see("#explanation ol", "50-late");
    let words = ["10-other is not concerned", "20-fails", "failed", "out of coffee", "30-passes"];
    for word in words.iter().chain(&["pass", "40-good", "ws://sts-good", "50-late was not asked"]) {
        assert!(steps.contains(word), "no {word}: {steps}");
    }
    browser.see("#explanation pre", "sts_url");

    browser.click("Insert a BlackBox example");
    browser.press("Control+Enter");
    browser.see("#explanation", "as blackbox");

    let body = "The body of the webhook, as the platform would send it when a call begins";
    browser.fill("textbox", body, "{\"uuid\": 1}");
    browser.click("Explain");
    browser.see("#explanation", "cannot be explained");
    browser.see("#explanation .said", "uuid");
    assert_eq!(browser.complaints(&server, &[REFUSED]), [""; 0]);
}

#[tokio::test]
async fn dead_letters_appear_and_are_told_once_more_or_thrown_away() {
    let Some(mut browser) = Browser::start() else { return };
    let settings = |what: &str| format!("[config]\ndo = '{what}'\n");
    let folder = PluginFolder::new()
        .guest("50-observer", "observer")
        .settings("50-observer", &settings("error"));
    let server = Setup::new(folder.path())
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_BACKOFF", "10ms")
        .start();
    browser.follow(&server);
    browser.see("#dead-list", "None.");
    for nth in 0..3 {
        server.post(said(&format!("call-{nth}"), nth, "not for the page")).await;
    }
    let row = browser.see("#dead-list tr", "call-2");
    assert!(row.contains("as it was told to") && row.contains("transcription"), "{row}");
    browser.see("#problems", "3 events");
    browser.gone("body", "not for the page");

    folder.configure("50-observer", &settings("nothing"));
    server.reload().await;
    let letters = server.admin("/events/dead").await.body["dead"].clone();
    // Numbered as they were given up: those of different calls in whatever order that came about.
    let id = |call: &str| {
        let of_call = |letter: &&Value| letter["call"] == call;
        letters.as_array().unwrap().iter().find(of_call).unwrap()["id"].to_string()
    };
    browser.click(&format!("Retry event {}", id("call-0")));
    browser.see("#toast", "1 event told once more");
    browser.gone("#dead-list tr", "call-0");

    // What cannot be undone is asked about first, and Escape says no.
    let discard = format!("Discard event {}", id("call-1"));
    browser.click(&discard);
    browser.see("#confirm-dialog", "cannot be told once more");
    browser.press("Escape");
    browser.gone("#confirm-dialog", "cannot");
    browser.see("#dead-list tr", "call-1");
    browser.click(&discard);
    browser.click("Discard");
    browser.gone("#dead-list tr", "call-1");

    browser.click("Retry 1 dead letter of 50-observer");
    browser.see("#dead-list", "None.");
    assert_eq!(server.admin("/events/dead").await.body["dead"], json!([]));
    browser.see("#health", "all is well");
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn a_timeline_opens_by_keyboard_alone() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().guest("10-good", GOOD);
    let server = Setup::new(folder.path()).start();
    server.post(initiated_as("keyboard-call", "5001")).await;
    server.post(event("keyboard-call", "call_started", 1, &json!({}))).await;
    browser.follow(&server);
    browser.see("#call-list summary", "keyboard-call");

    browser.press("Tab");
    let focused = |browser: &mut Browser| -> String {
        browser.order("focused", &json!({})).as_str().unwrap().to_owned()
    };
    assert_eq!(focused(&mut browser), "a: Skip to the plugins");
    let mut steps = 0;
    while !focused(&mut browser).starts_with("summary: ") {
        browser.press("Tab");
        steps += 1;
        assert!(steps < 60, "the call cannot be reached: {}", focused(&mut browser));
    }
    browser.gone("#call-list .timeline", "routed");
    browser.press("Enter");
    browser.see("#call-list .timeline", "routed");
    browser.see("#call-list .timeline", "started");
    // What is drawn anew in the meantime closes nothing and takes no focus away.
    server.post(said("keyboard-call", 2, "not for the page")).await;
    browser.see("#call-list .timeline", "transcription");
    assert!(focused(&mut browser).contains("3 steps"));
    browser.gone("body", "not for the page");
    browser.press("Escape");
    browser.gone("#call-list .timeline", "routed");
    assert!(focused(&mut browser).contains("3 steps"));

    // From a decision to its call.
    browser.order("focus", &json!({"role": "button", "name": "Timeline of call keyboard-call"}));
    browser.press("Enter");
    browser.see("#call-list .timeline", "routed");
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}

#[tokio::test]
async fn the_token_is_asked_for_and_kept_by_the_tab_alone() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().guest("10-good", GOOD);
    let server = Setup::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "open-sesame").start();
    browser.open(&server);
    browser.see("#token-dialog", "admin token");
    assert_eq!(browser.count("#plugins tbody"), 0);
    browser.fill("textbox", "Token", "guess");
    browser.press("Enter");
    browser.see("#token-dialog", "not the right one");
    browser.fill("textbox", "Token", "open-sesame");
    browser.click("Connect");
    browser.see("#health", "live");
    browser.see("#plugins tbody", "10-good");
    // The tab knows it still, what outlives the tab does not.
    browser.follow(&server);
    assert!(!browser.order("storage", &json!({})).to_string().contains("sesame"));
    assert_eq!(browser.complaints(&server, &[REFUSED]), [""; 0]);
}

#[tokio::test]
async fn a_lost_connection_is_told_and_comes_back_with_the_server() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new().guest("10-good", GOOD);
    let mut server = Setup::new(folder.path()).start();
    browser.follow(&server);
    server.post(initiated_as("before", "5001")).await;
    browser.see(ROWS, "before");
    let address = server.admin_address().to_owned();
    server.kill();
    browser.see("#toast", "Connection lost");
    browser.see("#health", "connection lost");
    // What is shown may be old, so nobody is told that all is well.
    browser.gone("#health", "all is well");

    let server = Setup::new(folder.path()).admin(&address).start();
    browser.see("#health", "live");
    browser.see("#health", "all is well");
    server.post(initiated_as("after", "5001")).await;
    browser.see(ROWS, "after");
    browser.see(ROWS, "before");
    // Of what was under way, refused or cut short.
    assert_eq!(browser.complaints(&server, &["net::ERR_"]), [""; 0]);
}

/// Everything that there is to see, for a person to look at, and for what a program can judge.
#[tokio::test]
async fn it_fits_on_a_phone_and_is_legible_and_named_throughout() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = PluginFolder::new()
        .sample("05-office-hours", "05-office-hours")
        .settings("05-office-hours", "enabled = false\n")
        .guest("10-flaky", "rules")
        .settings("10-flaky", "[config]\nrules = '* * error the CRM said 502'\n")
        .sample("20-number-plan", "10-number-plan")
        .settings("20-number-plan", "[config]\n5001 = 'ws://avr-sts-openai:6030/?uuid={id}'\n")
        .bytes("30-broken", b"no component")
        .guest("40-tools", "tools")
        .settings("40-tools", "[config]\ndo = 'answer'\n")
        .guest("50-rejects", "rejects")
        .settings("50-rejects", "[match]\nto = '9*'\n")
        .guest("60-observer", "observer")
        .settings("60-observer", "[config]\ndo = 'error'\n[events]\nkinds = ['started']\n");
    let server = Setup::new(folder.path())
        .blackbox()
        .env("PLUGBOARD_EVENTS_ATTEMPTS", "1")
        .env("PLUGBOARD_EVENTS_BACKOFF", "10ms")
        .start();
    browser.follow(&server);
    browser.see("#decision-table", "No call yet");
    browser.order("screenshot", &json!({"name": "1280-empty"}));
    for (nth, to) in (0..14).zip(["5001", "7001", "9001"].into_iter().cycle()) {
        let call = format!("935652e3-7c59-4edc-b17f-{nth:012}");
        server.post(initiated_as(&call, to)).await;
        server.post(event(&call, "call_started", nth, &json!({}))).await;
        server.post(said(&call, nth, "not for the page")).await;
    }
    let tool = tests::blackbox_document("tool.json", "call_abc123def456");
    server.blackbox(tool.to_string()).await;
    server.post(hostile_call()).await;
    browser.see("#plugins tbody", "set aside");
    browser.see("#dead-list tr", "as it was told to");
    browser.see(ROWS, "rejected");
    browser.see("#call-list summary", "<img src");
    browser.click("Insert an AVR example");
    browser.click("Explain");
    browser.see("#explanation pre", "sts_url");
    browser.order("click", &json!({"at": "#call-list summary", "text": "935652e3"}));
    browser.see("#call-list .timeline", "transcription");

    for (width, scheme) in [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")] {
        browser.order("look", &json!({"width": width, "scheme": scheme}));
        let audit = browser.order("audit", &json!({}));
        assert_eq!(audit, json!([]), "{width} {scheme}");
        assert_eq!(browser.order("overflow", &json!({})), 0, "{width} {scheme}");
        browser.order("screenshot", &json!({"name": format!("{width}-{scheme}")}));
    }
    // What a person chose counts more than what the system says.
    let ground = |browser: &mut Browser| -> Value {
        browser.order("style", &json!({"at": "body", "name": "backgroundColor"}))
    };
    let dark = ground(&mut browser);
    browser.click("Theme: system");
    assert_ne!(ground(&mut browser), dark, "light");
    browser.click("Theme: light");
    assert_eq!(ground(&mut browser), dark);
    assert_eq!(browser.complaints(&server, &[]), [""; 0]);
}
