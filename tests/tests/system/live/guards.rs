//! Access to the admin listener: token, other sites, and the policy of the page.

use serde_json::json;
use sha2::{Digest, Sha256};
use tests::{PluginFolder, ServerBuilder};

const PATHS: [&str; 6] = ["/", "/calls", "/reloads", "/live", "/plugins", "/metrics"];

#[tokio::test]
async fn every_path_except_page_requires_token() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "t0ken").start();
    for path in ["/live", "/calls", "/reloads", "/live?numbers=shown"] {
        assert_eq!(server.admin_get(path).await.status, 401, "{path}");
    }
    for path in ["/calls", "/reloads"] {
        let header = [("authorization", "Bearer t0ken")];
        assert_eq!(server.admin_get_with_headers(path, &header).await.status, 200, "{path}");
    }
    let page = server.admin_get("/").await;
    assert_eq!(
        (page.status, &page.headers["content-type"].to_str().unwrap()[..9]),
        (200, "text/html")
    );
    assert!(!server.log_text().contains("caller numbers unmasked"));
}

#[tokio::test]
async fn cross_site_requests_are_rejected() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let own = format!("http://{}", server.admin_address());
    let cross_site: &[&[(&str, &str)]] = &[
        &[("origin", "http://evil.example")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1:1")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
    ];
    for path in PATHS.into_iter().chain(["/livez"]) {
        for headers in cross_site {
            let answer = server.admin_get_with_headers(path, headers).await;
            let code = &answer.body["error"]["code"];
            assert_eq!((answer.status, code), (403, &json!("cross_site")), "{path} {headers:?}");
        }
    }
    // Requests that change data are rejected as well.
    let origin = [("origin", "http://evil.example")];
    assert_eq!(server.admin_delete("/calls/a", &origin).await.status, 403);
    for headers in [
        &[("origin", &*own), ("sec-fetch-site", "same-origin")][..],
        &[("sec-fetch-site", "none")],
        &[],
    ] {
        assert_eq!(
            server.admin_get_with_headers("/calls", headers).await.status,
            200,
            "{headers:?}"
        );
    }
    // A link in a mail may open the page, and no other path.
    let link = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "document"),
    ];
    assert_eq!(server.admin_get_with_headers("/", &link).await.status, 200);
    assert_eq!(server.admin_get_with_headers("/calls", &link).await.status, 403);
}

#[tokio::test]
async fn unknown_host_is_rejected_without_token() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    for path in PATHS {
        let answer = server.admin_get_with_headers(path, &[("host", "evil.example")]).await;
        let code = &answer.body["error"]["code"];
        assert_eq!((answer.status, code), (403, &json!("host_not_allowed")), "{path}");
    }
    for host in ["localhost", "localhost:9901", "[::1]:9901", "10.0.0.1"] {
        assert_eq!(
            server.admin_get_with_headers("/calls", &[("host", host)]).await.status,
            200,
            "{host}"
        );
    }
    for probe in ["/livez", "/readyz"] {
        assert_eq!(
            server.admin_get_with_headers(probe, &[("host", "pod.cluster")]).await.status,
            200
        );
    }
    let server = ServerBuilder::new(folder.path()).env("PLUGBOARD_ADMIN_TOKEN", "t0ken").start();
    let headers = [("host", "plugboard.example"), ("authorization", "Bearer t0ken")];
    assert_eq!(server.admin_get_with_headers("/calls", &headers).await.status, 200);
}

#[tokio::test]
async fn page_policy_allows_only_own_script_and_server() {
    let folder = PluginFolder::new();
    let server = ServerBuilder::new(folder.path()).start();
    let page = server.admin_get("/").await;
    let header = |name| page.headers[name].to_str().unwrap();
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-cache");
    assert_eq!(header("cross-origin-opener-policy"), "same-origin");
    let hash_source = |element: &str| {
        let (_, after) = page.text.split_once(&format!("<{element}>")).unwrap();
        let (text, after) = after.split_once(&format!("</{element}>")).unwrap();
        assert!(!after.contains(&format!("<{element}")), "more than one {element}");
        format!("'sha256-{}'", base64(&Sha256::digest(text)))
    };
    let expected = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash_source("script"),
        hash_source("style"),
    );
    assert_eq!(header("content-security-policy"), expected);
}

/// Encodes bytes as base64 with padding: each letter has six bits.
fn base64(bytes: &[u8]) -> String {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |nth| byte >> nth & 1)).collect();
    let letter = |bits: &[u8]| {
        let value = bits.iter().chain(&[0; 6]).take(6).fold(0, |value, bit| value << 1 | bit);
        char::from(match value {
            0..26 => b'A' + value,
            26..52 => b'a' + value - 26,
            52..62 => b'0' + value - 52,
            62 => b'+',
            _ => b'/',
        })
    };
    let mut text: String = bits.chunks(6).map(letter).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
