//! Authentication of BlackBox requests. The signatures were made with openssl:
//! `openssl dgst -sha256 -hmac SECRET tests/fixtures/blackbox/start.json`, and
//! `printf %s TEXT | openssl dgst -sha256 -hmac SECRET` for other texts.

use serde_json::{Value, json};
use tests::{
    Collector, PluginFolder, ROUTING_GUEST, Server, ServerBuilder, ServerResponse, blackbox_fixture,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SIGNATURE: &str = "X-BlackBox-Signature";

/// Signatures of start.json with the new, the old and an unknown secret.
const START_NEW: &str = "bb5fbfd498fae479c44d3b8decded248075c4a66c8c4d7c2a2d9fbd0ba37aa31";
const START_OLD: &str = "e95a8f980900a29cb7f8f3a749e2d088f3ba690b33846d5815420d810f7e5d65";
const START_OTHER: &str = "e714639195e25406a04347af68ec1db2b5e1cd8c9c59e96f365c2a93da98fd62";

/// Signature of completed.json with the new secret.
const COMPLETED_NEW: &str = "55e3adbec69f63f1bb6280f81660ae12e6afa7d6c6b5d41fb0d66cbcc9f60f86";

/// Signatures of an empty body, half a document and a text beyond ASCII, with the new secret.
const EMPTY_NEW: &str = "d740dcdd9b6058c93614c59b52398751f1362ca88ab7e26bd8f7d429d716c586";
const HALF: &str = "{\"type\":";
const HALF_NEW: &str = "19bd7719adb8a423480a1bb58971e3ad373f6104e26a233653b16339ac82a3c6";
const WIDE: &str = "{\"type\":\"StartWebHookPayload\",\"callId\":\"Zoë ☎\"}";
const WIDE_NEW: &str = "a0035fa4c222a1b07b02971d26c2b4a97a646bbf20ccd9b895d9c4b4d55fdc23";

type Headers<'a> = &'a [(&'a str, &'a str)];

fn plugins(collector: &Collector) -> PluginFolder {
    PluginFolder::new()
        .with_guest("10-good", ROUTING_GUEST)
        .with_guest("20-tools", "tools")
        .with_guest("50-observer", "observer")
        .with_settings("50-observer", &collector.settings(""))
}

/// Server with the log level `debug`, at which a secret in any message would appear.
fn setup(folder: &PluginFolder, settings: &[(&str, &str)]) -> ServerBuilder {
    let setup =
        ServerBuilder::new(folder.path()).enable_blackbox().env("PLUGBOARD_LOG_LEVEL", "debug");
    settings.iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

fn is_rejected(answer: &ServerResponse) -> bool {
    if answer.status != 401 {
        return false;
    }
    assert_eq!(answer.body["error"]["code"], "unauthorized", "{answer:?}");
    assert!(answer.body["error"]["message"].is_string());
    true
}

/// Checks that no plugin ran and no event was delivered, and stops the server.
async fn assert_no_effect(server: &mut Server, collector: &Collector) {
    assert_eq!(server.plugin_status("10-good").await["calls"], 0);
    let log = server.stop();
    assert!(!log.contains("\"decided\""), "{log}");
    assert_eq!(collector.events(), Vec::<Value>::new());
}

const SECRETS: &[(&str, &str)] =
    &[("PLUGBOARD_BLACKBOX_SIGNING_SECRETS", "new-s3cret, old-s3cret")];

#[tokio::test]
async fn signed_body_is_accepted() {
    let collector = Collector::start().await;
    let folder = plugins(&collector);
    let server = setup(&folder, SECRETS).start();
    let post = async |signature: &str, body: String| {
        server.post_to("/blackbox", &[(SIGNATURE, signature)], body).await
    };
    for tag in [START_NEW, START_OLD] {
        let upper = tag.to_uppercase();
        for credentials in [
            tag.to_owned(),
            format!("sha256={tag}"),
            upper.clone(),
            format!("sha256={upper}"),
            format!("SHA256={tag}"),
        ] {
            let answer = post(&credentials, blackbox_fixture("start.json")).await;
            assert_eq!(
                (answer.status, answer.body),
                (200, json!({"accept": true})),
                "{credentials}"
            );
        }
    }
    assert_eq!(post(COMPLETED_NEW, blackbox_fixture("completed.json")).await.status, 200);
    assert_eq!(post(WIDE_NEW, WIDE.to_owned()).await.status, 200);
    // The signature is valid, but the body is not a document.
    for (tag, body) in [(EMPTY_NEW, ""), (HALF_NEW, HALF)] {
        let answer = post(tag, body.to_owned()).await;
        assert_eq!(answer.status, 400, "{body}");
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("not JSON"), "{message}");
    }
}

#[tokio::test]
async fn invalid_signature_is_rejected_before_parsing() {
    let collector = Collector::start().await;
    let folder = plugins(&collector);
    let mut server = setup(&folder, SECRETS).start();
    let good = format!("sha256={START_NEW}");
    let flipped = format!("sha256=0{}", &START_NEW[1..]);
    let last = format!("{}0", &START_NEW[..63]);
    let (double, long) = (format!("sha256=sha256={START_NEW}"), format!("{START_NEW}00"));
    let (other, spaced) = (format!("md5={START_NEW}"), format!("sha256= {START_NEW}"));
    let (null, many) = ("0".repeat(64), "a".repeat(5_000));
    let wrong = [
        "",
        "sha256=",
        "x",
        "new-s3cret",
        &flipped,
        &last,
        START_OTHER,
        // Signature of another document.
        COMPLETED_NEW,
        EMPTY_NEW,
        &START_NEW[..62],
        &START_NEW[..63],
        &START_NEW[..16],
        &double,
        &long,
        &other,
        &spaced,
        &null,
        &many,
    ];
    for signature in wrong {
        // Documents of every type and malformed bodies get the same response.
        for file in ["start.json", "tool.json", "transfer.json", "failed.json"] {
            let body = blackbox_fixture(file);
            // `good` is valid for start.json only.
            let signature = if file == "start.json" { signature } else { &good };
            let answer = server.post_to("/blackbox", &[(SIGNATURE, signature)], body).await;
            assert!(is_rejected(&answer), "{signature} {file}: {answer:?}");
        }
        for body in ["", HALF, "not JSON", "{}", "\u{0}"] {
            let signature = if signature == EMPTY_NEW { "x" } else { signature };
            let answer = server.post_to("/blackbox", &[(SIGNATURE, signature)], body).await;
            assert!(is_rejected(&answer), "{signature} {body}: {answer:?}");
        }
        let deep = "[".repeat(1_000);
        let answer = server.post_to("/blackbox", &[(SIGNATURE, signature)], deep).await;
        assert!(is_rejected(&answer), "{answer:?}");
    }
    // The signature of another body.
    let start = blackbox_fixture("start.json");
    let changed = [
        format!("{start} "),
        format!(" {start}"),
        start.replacen("Queued", "queued", 1),
        start.replacen('\n', "", 1),
        format!("{start}\u{0}"),
    ];
    for body in changed {
        let answer = server.post_to("/blackbox", &[(SIGNATURE, &good)], body).await;
        assert!(is_rejected(&answer), "{answer:?}");
    }
    // Another header, or one valid and one invalid signature.
    for headers in [
        &[][..],
        &[("X-Hub-Signature-256", &*good)],
        &[("Authorization", &good)],
        &[("X-AVR-WEBHOOK-SECRET", "new-s3cret")],
        &[(SIGNATURE, &good), (SIGNATURE, &flipped)],
        &[(SIGNATURE, &flipped), (SIGNATURE, &good)],
    ] {
        let answer = server.post_to("/blackbox", headers, start.clone()).await;
        assert!(is_rejected(&answer), "{headers:?}: {answer:?}");
    }
    assert_no_effect(&mut server, &collector).await;
    let log = server.log_text();
    for secret in
        ["s3cret", &START_NEW[8..40], &START_OLD[8..40], &flipped[8..40], "call_abc", "4155551234"]
    {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

/// A client without credentials cannot make the server read a large body.
#[tokio::test]
async fn request_without_signature_is_rejected_before_body() {
    let folder = PluginFolder::new();
    let server = setup(&folder, SECRETS).start();
    let mut stream = TcpStream::connect(server.webhook_address()).await.unwrap();
    let head = b"POST /blackbox HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
}

#[tokio::test]
async fn signature_header_name_is_configurable() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let settings = [SECRETS[0], ("PLUGBOARD_BLACKBOX_SIGNATURE_HEADER", "X-Dasha-Signature")];
    let server = setup(&folder, &settings).start();
    let post = async |header: &str, tag: &str| {
        server.post_to("/blackbox", &[(header, tag)], blackbox_fixture("start.json")).await
    };
    assert_eq!(post("x-dasha-signature", START_NEW).await.status, 200);
    assert!(is_rejected(&post("x-dasha-signature", START_OTHER).await));
    assert!(is_rejected(&post(SIGNATURE, START_NEW).await));
    // The AVR endpoint has its own authentication.
    assert_eq!(server.post(tests::call_initiated()).await.status, 200);
}

#[tokio::test]
async fn required_headers_rotate_without_downtime() {
    let collector = Collector::start().await;
    let folder = plugins(&collector);
    let headers = "Authorization: Bearer s3cret-a, X-API-Key: s3cret-k1, X-API-Key: s3cret-k2";
    let settings = [("PLUGBOARD_BLACKBOX_HEADERS", headers)];
    let mut server = setup(&folder, &settings).start();
    let post = async |server: &Server, headers: &[_]| {
        server.post_to("/blackbox", headers, blackbox_fixture("start.json")).await
    };
    let (a, k1, k2) = (
        ("Authorization", "Bearer s3cret-a"),
        ("X-API-Key", "s3cret-k1"),
        ("X-API-Key", "s3cret-k2"),
    );
    for headers in [
        &[][..],
        &[a],
        &[k1],
        &[("Authorization", "Bearer s3cret-b"), k1],
        &[("Authorization", "bearer s3cret-a"), k1],
        &[("Authorization", "s3cret-a"), k1],
        &[("Authorization", "Bearer s3cret-a2"), k1],
        &[("Authorization", ""), k1],
        &[a, ("X-API-Key", "s3cret-k3")],
        &[a, ("X-API-Key", "")],
        &[a, k1, ("X-API-Key", "wrong")],
    ] {
        assert!(is_rejected(&post(&server, headers).await), "{headers:?}");
    }
    assert_no_effect(&mut server, &collector).await;
    assert!(!server.log_text().contains("s3cret"), "{}", server.log_text());
    let mut server = setup(&folder, &settings).start();
    for headers in [&[a, k1][..], &[k2, a], &[a, k1, k2]] {
        assert_eq!(post(&server, headers).await.status, 200, "{headers:?}");
    }
    let log = server.stop();
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test]
async fn any_combination_of_credentials_can_be_required() {
    let folder = PluginFolder::new().with_guest("10-good", ROUTING_GUEST);
    let (s, a, k) = ((SIGNATURE, START_NEW), ("Authorization", "Bearer a"), ("X-API-Key", "k"));
    let bad = [(SIGNATURE, START_OTHER), ("Authorization", "Bearer b"), ("X-API-Key", "l")];
    let headers = ("PLUGBOARD_BLACKBOX_HEADERS", "Authorization: Bearer a, X-API-Key: k");
    let sets: &[(&str, &[Headers<'_>])] = &[
        ("", &[&[s, a, k]]),
        ("signature", &[&[s], &[s, a], &[s, k], &[s, a, k]]),
        ("signature, authorization + x-api-key", &[&[s], &[a, k], &[s, a], &[s, k], &[s, a, k]]),
        ("x-api-key+signature", &[&[s, k], &[s, a, k]]),
        ("authorization, x-api-key", &[&[a], &[k], &[a, k], &[s, a], &[s, k], &[s, a, k]]),
    ];
    for (require, good) in sets {
        let settings = [SECRETS[0], headers, ("PLUGBOARD_BLACKBOX_REQUIRE", *require)];
        let server = setup(&folder, &settings).start();
        for credentials in [&[][..], &[s], &[a], &[k], &[s, a], &[s, k], &[a, k], &[s, a, k]] {
            let start = || blackbox_fixture("start.json");
            let answer = server.post_to("/blackbox", credentials, start()).await;
            let status = if good.contains(&credentials) { 200 } else { 401 };
            assert_eq!(answer.status, status, "{require}: {credentials:?}");
            // An optional credential must be valid as well.
            for bad in bad {
                if credentials.iter().all(|(name, _)| *name != bad.0) {
                    let credentials = [credentials, &[bad]].concat();
                    let answer = server.post_to("/blackbox", &credentials, start()).await;
                    assert!(is_rejected(&answer), "{require}: {credentials:?}");
                }
            }
        }
    }
}
