//! Tests against local servers whose responses the test defines byte by byte.

mod server;
mod tls;

use std::time::{Duration, Instant};

use self::server::{ResponsePart, TestServer, bytes_part, http_response, redirect};
use super::*;

const LONG_TIMEOUT: Duration = Duration::from_secs(120);

fn client(entries: &[String]) -> HttpClient {
    let limits = HttpLimits {
        timeout: LONG_TIMEOUT,
        max_request_size: 10_000,
        max_response_size: 10_000,
        concurrency: 2,
    };
    client_with_limits(entries, limits)
}

fn client_with_limits(entries: &[String], limits: HttpLimits) -> HttpClient {
    HttpClient::new(HttpGrants::try_from(entries.to_vec()).unwrap(), limits).unwrap()
}

fn get(url: String) -> HttpRequest {
    HttpRequest { method: "GET".to_owned(), url, ..HttpRequest::default() }
}

async fn fetch(client: &HttpClient, url: String) -> Result<HttpResponse, HttpError> {
    client.send(get(url), LONG_TIMEOUT).await
}

#[tokio::test]
async fn request_and_response_are_passed_through() {
    let server = TestServer::start(|_| {
        http_response("404 Not Found", "X-Z: zwölf\r\nx-a: 1\r\nX-A: 2\r\n", "no")
    });
    let client = client(&[server.address()]);
    let mut request = get(server.url("/a?b=c#d"));
    request.method = "PUT".to_owned();
    request.headers = vec![("X-B".to_owned(), "1".to_owned()), ("x-b".to_owned(), "2".to_owned())];
    request.body = b"body".to_vec();
    let response = client.send(request, LONG_TIMEOUT).await.unwrap();
    assert_eq!((response.status, &*response.body), (404, &b"no"[..]));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(response.headers.contains(&pair("x-z", "zwölf")), "{response:?}");
    assert!(response.headers.contains(&pair("x-a", "1")));
    assert!(response.headers.contains(&pair("x-a", "2")));
    let [request_text] = &server.requests()[..] else { panic!("one request") };
    assert!(request_text.starts_with("PUT /a?b=c HTTP/1.1\r\n"), "{request_text}");
    assert!(request_text.ends_with("\r\n\r\nbody"), "{request_text}");
    assert!(request_text.contains("x-b: 1\r\nx-b: 2\r\n"), "{request_text}");
    assert!(request_text.contains(concat!(
        "user-agent: plugboard/",
        env!("CARGO_PKG_VERSION"),
        "\r\n"
    )));
    assert!(request_text.contains(&format!("host: {}\r\n", server.address())), "{request_text}");
    for header in ["referer", "cookie", "accept-encoding", "transfer-encoding", "connection"] {
        assert!(!request_text.contains(header), "{request_text}");
    }
}

#[tokio::test]
async fn guest_may_set_user_agent() {
    let server = TestServer::start(|_| http_response("200 OK", "", ""));
    let mut request = get(server.url("/"));
    request.headers.push(("User-Agent".to_owned(), "mine".to_owned()));
    client(&[server.address()]).send(request, LONG_TIMEOUT).await.unwrap();
    assert!(server.requests()[0].contains("user-agent: mine\r\n"));
}

#[tokio::test]
async fn head_response_has_length_without_body() {
    let server =
        TestServer::start(|_| vec![bytes_part("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")]);
    let mut request = get(server.url("/"));
    request.method = "HEAD".to_owned();
    let response = client(&[server.address()]).send(request, LONG_TIMEOUT).await.unwrap();
    assert_eq!(response.body, b"");
}

#[tokio::test]
async fn granted_name_resolving_to_loopback_is_rejected() {
    let server = TestServer::start(|_| http_response("200 OK", "", "here"));
    let port = server.port();
    let url = || format!("http://LocalHost:{port}/4930123?q=4930123");
    let name = format!("localhost:{port}");
    let error = fetch(&client(std::slice::from_ref(&name)), url()).await.unwrap_err();
    assert_eq!(error.label(), "address_refused");
    let text = error.to_string();
    assert!(text.contains(&format!("localhost:{port} resolves to ")), "{text}");
    assert!(!text.contains("4930123"), "{text}");
    for entry in ["127.0.0.0/8".to_owned(), format!("127.0.0.1:{}", port ^ 1)] {
        let error = fetch(&client(&[name.clone(), entry]), url()).await.unwrap_err();
        assert_eq!(error.label(), "address_refused");
    }
    // A grant of the address does not grant the name.
    let error = fetch(&client(&[server.address()]), url()).await.unwrap_err();
    assert_eq!(error.label(), "not_granted");
    assert_eq!(server.requests().len(), 0);

    for entry in [format!("127.0.0.0/8:{port}"), server.address()] {
        let response = fetch(&client(&[name.clone(), entry]), url()).await.unwrap();
        assert_eq!(response.body, b"here");
    }
}

#[tokio::test]
async fn ungranted_hosts_are_not_contacted() {
    let server = TestServer::start(|_| http_response("200 OK", "", ""));
    let port = server.port();
    let client = client(&[format!("127.0.0.1:{}", port ^ 1), "crm.example.com".to_owned()]);
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "[::ffff:7f00:1]"] {
        let error = fetch(&client, format!("http://{host}:{port}/")).await.unwrap_err();
        assert_eq!(error.label(), "not_granted", "{host}");
        assert!(error.is_refusal());
    }
    let error = fetch(&client, format!("http://crm.example.com@127.0.0.1:{port}/")).await;
    assert_eq!(error.unwrap_err().label(), "invalid_request");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn redirects_within_the_grants_are_followed() {
    let other = TestServer::start(|_| http_response("200 OK", "", "there"));
    let target = other.url("/b");
    let server = TestServer::start(move |head| match head {
        head if head.starts_with("GET /self ") => redirect("302 Found", "/there"),
        _ => redirect("307 Temporary Redirect", &target),
    });
    let name = format!("localhost:{}", server.port());
    let client = client(&[server.address(), other.address(), name.clone()]);
    let mut request = get(format!("http://{name}/self"));
    for header in ["authorization", "cookie", "x-other"] {
        request.headers.push((header.to_owned(), "secret".to_owned()));
    }
    let response = client.send(request, LONG_TIMEOUT).await.unwrap();
    assert_eq!((response.status, &*response.body), (200, &b"there"[..]));
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(
        requests.iter().all(|it| it.contains("cookie: secret") && it.contains("authorization:"))
    );
    let request_text = &other.requests()[0];
    assert!(request_text.contains("x-other: secret"), "{request_text}");
    for header in ["authorization", "cookie", "referer"] {
        assert!(!request_text.contains(header), "{request_text}");
    }
}

#[tokio::test]
async fn redirects_outside_the_grants_are_rejected() {
    let ungranted = TestServer::start(|_| http_response("200 OK", "", ""));
    let port = ungranted.port();
    for (location, label) in [
        ("http://169.254.169.254/latest/4930123".to_owned(), "not_granted"),
        ("http://[fd00:ec2::254]/".to_owned(), "not_granted"),
        (ungranted.url("/"), "not_granted"),
        (format!("//127.1:{port}/"), "not_granted"),
        (format!("http://localhost:{port}/"), "address_refused"),
        (format!("http://LOCALHOST:{port}/"), "address_refused"),
        ("http://crm.example.com/".to_owned(), "not_granted"),
        ("http://a:b@127.0.0.1/".to_owned(), "not_granted"),
        ("ftp://127.0.0.1/".to_owned(), "not_granted"),
    ] {
        let target = location.clone();
        let server = TestServer::start(move |_| redirect("302 Found", &target));
        let client = client(&[server.address(), format!("localhost:{port}")]);
        let error = fetch(&client, server.url("/")).await.unwrap_err();
        assert_eq!(error.label(), label, "{location}: {error}");
        assert!(!error.to_string().contains("4930123"), "{error}");
    }
    assert_eq!(ungranted.requests().len(), 0);
    // A redirect to a URL without a host is not followed.
    let server = TestServer::start(|_| redirect("302 Found", "file:///etc/passwd"));
    let response = fetch(&client(&[server.address()]), server.url("/")).await.unwrap();
    assert_eq!((response.status, &*response.body), (302, &b""[..]));
}

#[tokio::test]
async fn redirects_are_limited_to_five() {
    let server = TestServer::start(|head| {
        let nth: u32 = head[5..6].parse().unwrap();
        if nth == 0 {
            http_response("200 OK", "", "")
        } else {
            redirect("302 Found", &format!("/{}", nth - 1))
        }
    });
    let client = client(&[server.address()]);
    assert_eq!(fetch(&client, server.url("/5")).await.unwrap().status, 200);
    let error = fetch(&client, server.url("/6")).await.unwrap_err();
    assert_eq!(error, HttpError::Failed("more than 5 redirects".to_owned()));
}

#[tokio::test]
async fn oversized_bodies_are_rejected() {
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    for parts in [
        // The client rejects the announced length without waiting for the body.
        vec![bytes_part("HTTP/1.1 200 OK\r\ncontent-length: 10001\r\n\r\n")],
        vec![
            bytes_part("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
            bytes_part(chunk.repeat(3)),
        ],
        vec![bytes_part("HTTP/1.1 200 OK\r\n\r\n"), bytes_part(vec![b'a'; 10_001])],
        vec![bytes_part(format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "a".repeat(10_000)))],
    ] {
        let server = TestServer::start(move |_| parts.clone());
        let error = fetch(&client(&[server.address()]), server.url("/")).await.unwrap_err();
        assert_eq!(error.label(), "too_large");
    }
    let server = TestServer::start(|_| http_response("200 OK", "", &"a".repeat(9_900)));
    let client = client(&[server.address()]);
    assert_eq!(fetch(&client, server.url("/")).await.unwrap().body.len(), 9_900);
    let request = HttpRequest { body: vec![0; 10_000], ..get(server.url("/")) };
    assert_eq!(client.send(request, LONG_TIMEOUT).await.unwrap_err().label(), "too_large");
}

#[tokio::test]
async fn shortest_timeout_applies_to_head_and_body() {
    let server = TestServer::start(|head| match head {
        head if head.starts_with("GET /body ") => {
            let mut parts = vec![bytes_part("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n")];
            parts.extend(vec![[ResponsePart::Pause, bytes_part("a")]; 500].concat());
            parts
        }
        _ => vec![ResponsePart::Pause; 500],
    });
    let short = Duration::from_millis(500);
    let limits = |timeout| HttpLimits {
        timeout,
        max_request_size: 1000,
        max_response_size: 1000,
        concurrency: 1,
    };
    for (limit, request_timeout, remaining) in [
        (short, None, LONG_TIMEOUT),
        (LONG_TIMEOUT, Some(short), LONG_TIMEOUT),
        (LONG_TIMEOUT, None, short),
        (short, Some(LONG_TIMEOUT), LONG_TIMEOUT),
        (LONG_TIMEOUT, Some(LONG_TIMEOUT), short),
        (LONG_TIMEOUT, None, Duration::ZERO),
    ] {
        let client = client_with_limits(&[server.address()], limits(limit));
        for path in ["/body", "/head"] {
            let start = Instant::now();
            let request = HttpRequest { timeout: request_timeout, ..get(server.url(path)) };
            assert_eq!(client.send(request, remaining).await, Err(HttpError::Timeout));
            // The server's response ends after ten seconds.
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        }
    }
    // A request with a timeout of zero is not sent.
    assert_eq!(server.requests().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_are_limited() {
    let server = TestServer::start(|_| {
        let mut parts = vec![ResponsePart::Pause; 50];
        parts.extend(http_response("200 OK", "", ""));
        parts
    });
    let client = client(&[server.address(), format!("localhost:{}", server.port())]);
    let fetch_once = || fetch(&client, format!("http://localhost:{}/", server.port()));
    let (a, b, c) = tokio::join!(fetch_once(), fetch_once(), fetch_once());
    let results = [a, b, c];
    let mut labels = results.map(|result| result.map_or_else(|error| error.label(), |_| "ok"));
    labels.sort_unstable();
    assert_eq!(labels, ["ok", "ok", "too_many"]);
    // Cancelled requests release their permits.
    for _ in 0..3 {
        let both = async { tokio::join!(fetch_once(), fetch_once()) };
        assert!(tokio::time::timeout(Duration::from_millis(20), both).await.is_err());
    }
    assert_eq!(fetch_once().await.unwrap().status, 200);
}

#[tokio::test]
async fn connections_are_reused() {
    let server = TestServer::start(|_| http_response("200 OK", "", ""));
    let client = client(&[server.address()]);
    for _ in 0..3 {
        fetch(&client, server.url("/")).await.unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn failure_messages_name_host_without_path() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let broken =
        TestServer::start(|_| vec![bytes_part("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\na")]);
    let malformed = TestServer::start(|_| vec![bytes_part("4930123\r\n\r\n")]);
    let client = client(&[
        closed.to_string(),
        broken.address(),
        malformed.address(),
        "nowhere.invalid".to_owned(),
    ]);
    for host in
        [closed.to_string(), broken.address(), malformed.address(), "nowhere.invalid".to_owned()]
    {
        let error = fetch(&client, format!("http://{host}/4930123?4930123")).await.unwrap_err();
        assert_eq!(error.label(), "failed");
        let text = error.to_string();
        assert!(text.contains(&host), "{text}");
        assert!(!text.contains("4930123"), "{text}");
    }
}
