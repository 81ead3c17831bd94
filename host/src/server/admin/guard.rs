//! Keeps other sites out, which an operator's browser may have open beside ours: it would
//! send what their pages tell it to, from a machine that may ask us.
//!
//! Browsers say for whom they ask. Whatever else asks (curl, Prometheus) says nothing of
//! the kind, and is not concerned.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::super::App;
use super::super::error::HttpError;

/// Refuses what a page of another site asks.
pub(super) async fn site(request: Request, next: Next) -> Result<Response, HttpError> {
    if is_own_site(request.headers()) || is_link_to_the_page(&request) {
        return Ok(next.run(request).await);
    }
    Err(HttpError::cross_site())
}

/// Without a token, refuses what is asked by a name that anybody could give to our
/// address: the browser would take such a site for ours (DNS rebinding). Probes tell
/// nothing that matters, and may come by any name.
pub(super) async fn host(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    if app.config.admin_token.is_some() || is_own_host(request.headers()) {
        return Ok(next.run(request).await);
    }
    Err(HttpError::host_not_allowed())
}

fn is_own_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter().map(|site| site.as_bytes());
    // No page can say so of itself. A proxy in front of us may have another name than
    // the `Host` that it sends.
    if let (Some(b"same-origin"), None) = (sites.next(), sites.next()) {
        return true;
    }
    let from_elsewhere = headers.get_all("sec-fetch-site").iter().any(|site| site != "none");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let mut origins = headers.get_all(header::ORIGIN).iter();
    !from_elsewhere
        && origins.all(|origin| {
            let origin = origin.as_bytes();
            // Whatever stands before us may speak https.
            let of = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
            of.zip(host).is_some_and(|(of, host)| of.eq_ignore_ascii_case(host))
        })
}

/// Whether somebody follows a link to the page, from a wiki or a mail. There is nothing
/// in it, and no other site can look into it or click in it.
fn is_link_to_the_page(request: &Request) -> bool {
    let is = |name, value: &str| request.headers().get(name).is_some_and(|it| it == value);
    request.method() == Method::GET
        && request.uri().path() == "/"
        && !request.headers().contains_key(header::ORIGIN)
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
}

fn is_own_host(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let Ok(host) = host.to_str() else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
            _ => host,
        };
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        of.iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_our_own_pages_and_programs_may_ask() {
        let own = |of: &[_]| is_own_site(&headers(of));
        let host = ("host", "127.0.0.1:9901");
        assert!(own(&[]) && own(&[host]));
        assert!(own(&[host, ("origin", "http://127.0.0.1:9901")]));
        assert!(own(&[("host", "Ops.example"), ("origin", "https://ops.example")]));
        assert!(own(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(own(&[host, ("sec-fetch-site", "none")]));
        for origin in [
            "http://127.0.0.1:9902",
            "http://evil.example",
            "http://evil.example/127.0.0.1:9901",
            "http://127.0.0.1",
            "ftp://127.0.0.1:9901",
            "null",
            "",
        ] {
            assert!(!own(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!own(&[("origin", "http://127.0.0.1:9901")]));
        for site in ["cross-site", "same-site", "news"] {
            assert!(!own(&[host, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_this_machine() {
        let own = |host| is_own_host(&headers(&[("host", host)]));
        for host in
            ["127.0.0.1:9901", "10.1.2.3", "[::1]:9901", "[::1]", "localhost", "LocalHost:9"]
        {
            assert!(own(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a:b:9901",
        ] {
            assert!(!own(host), "{host}");
        }
        // Browsers always say.
        assert!(is_own_host(&HeaderMap::new()));
    }
}
