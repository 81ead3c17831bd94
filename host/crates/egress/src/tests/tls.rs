//! Tests of https against a server with a self-signed certificate.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use reqwest::{Certificate, Client};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::*;

/// Self-signed certificate of `localhost`, valid until 2120, for these tests only.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBPTCB5aADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCWxvY2FsaG9z
dDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
bG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEgy51MI2pB4CZkSbX
KqsDz3qdW/gJakwWdJueDUFSkUkiwfJ8UnVigb+9iUrcyM9B5fUDEWaQoV40sebk
rgKHa6MmMCQwFAYDVR0RBA0wC4IJbG9jYWxob3N0MAwGA1UdEwEB/wQCMAAwCgYI
KoZIzj0EAwIDRwAwRAIgR6qDY2dOZ2re0/zfvoxjUsgTYgxbIF160ltZQnlWB38C
IEZc7rrQ/h5iBGbtjm5Dnue4sbuy02e4IZYXyWLPPVqQ
-----END CERTIFICATE-----
";

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbmv0v+5pH/0Lrgw0
64TdWF3k/Q8nqXkSivOuz4cr7ZqhRANCAASDLnUwjakHgJmRJtcqqwPPep1b+Alq
TBZ0m54NQVKRSSLB8nxSdWKBv72JStzIz0Hl9QMRZpChXjSx5uSuAodr
-----END PRIVATE KEY-----
";

/// Starts an https server that answers each connection once, and returns its port.
fn serve(response: String) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, config) = (connection.unwrap(), Arc::clone(&config));
            let mut tls = ServerConnection::new(config).unwrap();
            let mut stream = Stream::new(&mut tls, &mut connection);
            // A client that does not trust the certificate closes the connection here.
            if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                stream.write_all(response.as_bytes()).unwrap();
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    port
}

const OK_RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn entries(port: u16) -> Vec<String> {
    vec![format!("localhost:{port}"), format!("127.0.0.1:{port}")]
}

fn client_trusting(entries: Vec<String>, certificates: &[Certificate]) -> HttpClient {
    let limits = HttpLimits {
        timeout: LONG_TIMEOUT,
        max_request_size: 10_000,
        max_response_size: 10_000,
        concurrency: 1,
    };
    let builder = || Client::builder().tls_certs_only(certificates.to_vec());
    HttpClient::with_builder(HttpGrants::try_from(entries).unwrap(), limits, builder).unwrap()
}

#[tokio::test]
async fn untrusted_certificate_is_rejected() {
    let port = serve(OK_RESPONSE.to_owned());
    let url = || format!("https://localhost:{port}/4930123");
    for client in [client(&entries(port)), client_trusting(entries(port), &[])] {
        let error = fetch(&client, url()).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.label(), "failed");
        assert!(text.contains("certificate") && text.contains("localhost:"), "{text}");
        assert!(!text.contains("4930123"), "{text}");
    }
}

#[tokio::test]
async fn trusted_certificate_is_valid_for_its_name_only() {
    let port = serve(OK_RESPONSE.to_owned());
    let certificate = Certificate::from_pem(CERTIFICATE.as_bytes()).unwrap();
    let client = client_trusting(entries(port), &[certificate]);
    let response = fetch(&client, format!("https://localhost:{port}/")).await.unwrap();
    assert_eq!(response.body, b"ok");
    let error = fetch(&client, format!("https://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn redirect_from_https_to_http_is_rejected() {
    let plain = TestServer::start(|_| http_response("200 OK", "", ""));
    let location = plain.url("/");
    let port =
        serve(format!("HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: {location}\r\n\r\n"));
    let certificate = Certificate::from_pem(CERTIFICATE.as_bytes()).unwrap();
    let client = client_trusting([entries(port), vec![plain.address()]].concat(), &[certificate]);
    let error = fetch(&client, format!("https://localhost:{port}/")).await.unwrap_err();
    assert_eq!(error.label(), "not_granted");
    assert!(error.to_string().contains("https to http"), "{error}");
    assert_eq!(plain.requests().len(), 0);
}
