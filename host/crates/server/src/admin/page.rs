//! `GET /`: the operator page, one document in the program. It contains no data, so it needs no
//! token: it uses the admin API like any other client.
//!
//! The compiler joins its pieces, which are separate files.
//!
//! The script sets text and classes, never markup, so data of callers and plugins stays text.

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

const PAGE_HTML: &str = concat!(
    include_str!("page/head.html"),
    "<style>\n",
    include_str!("page/style.css"),
    "</style>\n",
    include_str!("page/body.html"),
    // A piece uses constants of earlier pieces only, and functions of all pieces.
    "<script>\n",
    include_str!("page/script/elements.js"),
    include_str!("page/script/words.js"),
    include_str!("page/script/state.js"),
    include_str!("page/script/server.js"),
    include_str!("page/script/health.js"),
    include_str!("page/script/plugins.js"),
    include_str!("page/script/calls.js"),
    include_str!("page/script/dead.js"),
    include_str!("page/script/explain.js"),
    include_str!("page/script/actions.js"),
    "</script>\n</body>\n</html>\n",
);

/// The page with its response headers.
#[derive(Clone)]
pub(super) struct Page {
    content_security_policy: HeaderValue,
}

impl Page {
    /// Returns the page that the program contains.
    pub(super) fn embedded() -> Self {
        Self { content_security_policy: content_security_policy(PAGE_HTML) }
    }

    pub(super) fn response(&self) -> Response {
        let fixed = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ];
        let policy = [(header::CONTENT_SECURITY_POLICY, self.content_security_policy.clone())];
        (fixed, policy, Bytes::from_static(PAGE_HTML.as_bytes())).into_response()
    }
}

/// Returns a policy that allows the page's own script and style, by their hashes, and
/// requests to this server.
fn content_security_policy(page: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash_sources(page, "script"),
        hash_sources(page, "style"),
    );
    // The policy has only ASCII letters and punctuation, so it is a valid header value.
    HeaderValue::from_str(&policy)
        .unwrap_or_else(|_| HeaderValue::from_static("default-src 'none'"))
}

/// Returns the hashes of the contents of all elements with this name.
fn hash_sources(page: &str, element: &str) -> String {
    let sources: Vec<_> = inline_elements(page, element)
        .map(|text| format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(text))))
        .collect();
    if sources.is_empty() { "'none'".to_owned() } else { sources.join(" ") }
}

fn inline_elements<'a>(page: &'a str, element: &str) -> impl Iterator<Item = &'a str> {
    let (start, end) = (format!("<{element}>"), format!("</{element}>"));
    let mut rest = page;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&start)?;
        let (text, after) = after.split_once(&end)?;
        rest = after;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_one_inline_script_and_style_and_no_external_ones() {
        assert_eq!(inline_elements(PAGE_HTML, "script").count(), 1);
        assert_eq!(inline_elements(PAGE_HTML, "style").count(), 1);
        // The hashes cover exactly the text between the tags.
        assert!(!PAGE_HTML.contains('\r'));
        for open in ["<script ", "<link", "<iframe", "style=\"", " onclick=", "src=\"http"] {
            assert!(!PAGE_HTML.contains(open), "{open}");
        }
    }

    #[test]
    fn policy_contains_hashes_of_inline_elements() {
        let policy = content_security_policy("<style>b</style><script>a</script>");
        let policy = policy.to_str().unwrap();
        // The command is: printf a | openssl dgst -sha256 -binary | base64
        assert!(
            policy.contains("script-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='"),
            "{policy}"
        );
        assert!(
            policy.contains("style-src 'sha256-PiPoFgA5WUoziU9lZOGxNIu9egCI1CxKy3PurtWcAJ0='"),
            "{policy}"
        );
    }
}
