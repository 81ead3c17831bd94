//! Protection against other web sites that an operator's browser has open. Their pages could
//! send requests from a machine that may use the admin API.
//!
//! Browsers send the site that a request comes from. Other clients (curl, Prometheus) send no
//! such header, and are not affected.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::super::app_state::AppState;
use super::super::error::ErrorResponse;

/// Rejects requests that pages of other sites send.
pub(super) async fn reject_cross_site(
    request: Request,
    next: Next,
) -> Result<Response, ErrorResponse> {
    if is_own_site(request.headers()) || is_link_to_the_page(&request) {
        return Ok(next.run(request).await);
    }
    Err(ErrorResponse::cross_site())
}

/// Without a token, rejects requests by a host name, because any name can resolve to the
/// server's address (DNS rebinding). Probes return nothing of value, and accept any name.
pub(super) async fn reject_foreign_host(
    State(app): State<Arc<AppState>>,
    request: Request,
    next: Next,
) -> Result<Response, ErrorResponse> {
    if app.config.admin_token.is_some() || is_own_host(request.headers()) {
        return Ok(next.run(request).await);
    }
    Err(ErrorResponse::host_not_allowed())
}

fn is_own_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter().map(|site| site.as_bytes());
    // The browser sets this header, and no page can. It is checked first, because a proxy may
    // send another `Host` than the page's.
    if let (Some(b"same-origin"), None) = (sites.next(), sites.next()) {
        return true;
    }
    let from_elsewhere = headers.get_all("sec-fetch-site").iter().any(|site| site != "none");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let mut origins = headers.get_all(header::ORIGIN).iter();
    !from_elsewhere
        && origins.all(|origin| {
            let origin = origin.as_bytes();
            // A proxy may terminate TLS.
            let authority = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
            authority.zip(host).is_some_and(|(of, host)| of.eq_ignore_ascii_case(host))
        })
}

/// Returns whether the request follows a link to the page. The page contains no data, and no
/// other site can read it or click in it.
fn is_link_to_the_page(request: &Request) -> bool {
    let has_header = |name, value: &str| request.headers().get(name).is_some_and(|it| it == value);
    request.method() == Method::GET
        && request.uri().path() == "/"
        && !request.headers().contains_key(header::ORIGIN)
        && has_header("sec-fetch-mode", "navigate")
        && has_header("sec-fetch-dest", "document")
}

fn is_own_host(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let Ok(host) = host.to_str() else { return false };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
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

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn own_pages_and_non_browsers_are_admitted() {
        let is_own = |of: &[_]| is_own_site(&headers(of));
        let host = ("host", "127.0.0.1:9901");
        assert!(is_own(&[]) && is_own(&[host]));
        assert!(is_own(&[host, ("origin", "http://127.0.0.1:9901")]));
        assert!(is_own(&[("host", "Ops.example"), ("origin", "https://ops.example")]));
        assert!(is_own(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(is_own(&[host, ("sec-fetch-site", "none")]));
        for origin in [
            "http://127.0.0.1:9902",
            "http://evil.example",
            "http://evil.example/127.0.0.1:9901",
            "http://127.0.0.1",
            "ftp://127.0.0.1:9901",
            "null",
            "",
        ] {
            assert!(!is_own(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!is_own(&[("origin", "http://127.0.0.1:9901")]));
        for site in ["cross-site", "same-site", "news"] {
            assert!(!is_own(&[host, ("sec-fetch-site", site)]), "{site}");
        }
    }

    #[test]
    fn own_host_is_ip_address_or_localhost() {
        let is_own = |host| is_own_host(&headers(&[("host", host)]));
        for host in
            ["127.0.0.1:9901", "10.1.2.3", "[::1]:9901", "[::1]", "localhost", "LocalHost:9"]
        {
            assert!(is_own(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9901",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a:b:9901",
        ] {
            assert!(!is_own(host), "{host}");
        }
        // A request without the header does not come from a browser.
        assert!(is_own_host(&HeaderMap::new()));
    }
}
