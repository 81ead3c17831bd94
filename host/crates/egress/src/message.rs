//! Validation of a plugin's request, and its conversion to the HTTP library's type.

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use url::Url;

use super::target::Target;
use super::{HttpError, HttpRequest};
use plugboard_core::text::truncate;

/// Headers that control the framing, the target or the connection of a message. A plugin that
/// sets them could smuggle a second request into the first. All headers that start with
/// `proxy-` are rejected as well.
const FORBIDDEN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Longest quotation of a header name in an error message, in bytes.
const MAX_QUOTED_NAME: usize = 64;

/// Returns the request to send, and its target.
///
/// # Errors
///
/// [`HttpError::InvalidRequest`], and [`HttpError::TooLarge`] beyond `max_size` bytes.
pub fn validate_request(
    request: HttpRequest,
    max_size: usize,
) -> Result<(Target, reqwest::Request), HttpError> {
    let size = request_size(&request);
    if size > max_size {
        return Err(HttpError::TooLarge(format!(
            "the request has {size} bytes; expected at most {max_size}"
        )));
    }
    let method = match &*request.method {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "PATCH" => Method::PATCH,
        "DELETE" => Method::DELETE,
        "OPTIONS" => Method::OPTIONS,
        _ => {
            return Err(invalid_request(
                "the method is not one of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS",
            ));
        }
    };
    let mut url = Url::parse(&request.url)
        .map_err(|error| HttpError::InvalidRequest(format!("the URL is invalid: {error}")))?;
    url.set_fragment(None);
    let target = Target::from_url(&url).map_err(invalid_request)?;
    let mut outgoing = reqwest::Request::new(method, url);
    for (name, value) in &request.headers {
        let (name, value) = validate_header(name, value)?;
        outgoing.headers_mut().append(name, value);
    }
    if !request.body.is_empty() {
        *outgoing.body_mut() = Some(request.body.into());
    }
    Ok((target, outgoing))
}

fn request_size(request: &HttpRequest) -> usize {
    let headers = request.headers.iter().map(|(name, value)| header_size(name.len(), value.len()));
    headers.sum::<usize>() + request.method.len() + request.url.len() + request.body.len()
}

/// Returns the size of a header in bytes, with its colon, space and line break.
pub fn header_size(name: usize, value: usize) -> usize {
    name + value + 4
}

fn validate_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HttpError> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(invalid_request("a header name is empty or has an invalid character"));
    };
    let quoted = truncate(name.as_str(), MAX_QUOTED_NAME);
    if FORBIDDEN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(HttpError::InvalidRequest(format!(
            "only the host may set the header `{quoted}`"
        )));
    }
    let Ok(value) =
        HeaderValue::from_str(value).or_else(|_| HeaderValue::from_bytes(value.as_bytes()))
    else {
        return Err(HttpError::InvalidRequest(format!(
            "the value of the header `{quoted}` has a line break or another control character"
        )));
    };
    Ok((name, value))
}

fn invalid_request(problem: &str) -> HttpError {
    HttpError::InvalidRequest(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str) -> HttpRequest {
        HttpRequest { method: "GET".to_owned(), url: url.to_owned(), ..HttpRequest::default() }
    }

    fn validate(request: HttpRequest) -> Result<(Target, reqwest::Request), HttpError> {
        validate_request(request, 100)
    }

    #[test]
    fn validated_request_preserves_the_guest_request() {
        let mut guest_request = request("HTTP://Crm.Example.com./a?b#c");
        guest_request.method = "POST".to_owned();
        guest_request.headers =
            vec![("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "zwölf".to_owned())];
        guest_request.body = b"body".to_vec();
        let (target, sent) = validate(guest_request).unwrap();
        assert_eq!(target.to_string(), "crm.example.com:80");
        assert_eq!(sent.method(), Method::POST);
        assert_eq!(sent.url().as_str(), "http://crm.example.com./a?b");
        let values: Vec<_> = sent.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1".as_bytes(), "zwölf".as_bytes()]);
        assert_eq!(sent.body().unwrap().as_bytes(), Some(&b"body"[..]));
    }

    #[test]
    fn forbidden_and_malformed_headers_are_rejected() {
        for (name, value) in [
            ("Host", "evil.example"),
            ("content-length", "0"),
            ("Transfer-Encoding", "chunked"),
            ("connection", "close"),
            ("Keep-Alive", "1"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("Proxy-Authorization", "x"),
            ("proxy-connection", "x"),
            ("expect", "100-continue"),
            ("x-a", "b\r\nhost: evil.example"),
            ("x-a", "b\nc"),
            ("x-a", "b\rc"),
            ("x-a", "b\0c"),
            ("x-a", "\u{7f}"),
            ("x-a\r\nhost: evil.example", "b"),
            ("x-a:", "b"),
            ("x a", "b"),
            ("x-ä", "b"),
            ("", "b"),
        ] {
            let mut request = request("http://a/");
            request.headers.push((name.to_owned(), value.to_owned()));
            let error = validate(request).unwrap_err();
            assert_eq!(error.label(), "invalid_request", "{name}: {value}");
            assert!(!error.to_string().contains("evil"), "{error}");
        }
    }

    #[test]
    fn invalid_methods_and_urls_are_rejected() {
        for method in ["", "get", "CONNECT", "TRACE", "GET / HTTP/1.1\r\n", "PROPFIND"] {
            let request = HttpRequest { method: method.to_owned(), ..request("http://a/") };
            assert_eq!(validate(request).unwrap_err().label(), "invalid_request", "{method}");
        }
        for url in ["", "a", "/a", "ftp://a/", "http://", "http://a:b@c/", "http://a:65536/"] {
            let error = validate(request(url)).unwrap_err();
            assert_eq!(error.label(), "invalid_request", "{url}");
        }
        let long = format!("http://{}a/", "a.".repeat(127));
        assert_eq!(validate_request(request(&long), 1000).unwrap_err().label(), "invalid_request");
    }

    #[test]
    fn request_size_is_limited() {
        let mut guest_request = request("http://a/");
        guest_request.headers.push(("x-a".to_owned(), "b".to_owned()));
        guest_request.body = vec![0; 100 - 3 - 9 - 8];
        validate(guest_request.clone()).unwrap();
        guest_request.body.push(0);
        assert_eq!(validate(guest_request).unwrap_err().label(), "too_large");
    }
}
