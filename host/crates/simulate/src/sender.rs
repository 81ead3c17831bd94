//! The sender of events, which behaves as AVR Core: with a timeout, and with retries if
//! configured.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url, redirect, retry};
use serde::Deserialize;

use plugboard_tls::client_roots as tls;

/// The header of the shared secret.
const SECRET_HEADER: &str = "x-avr-webhook-secret";

/// The maximum bytes of an answer that are read. No answer that AVR can use is longer.
const MAX_RESPONSE_BODY: usize = 64 * 1024;

/// Posts events to one address.
pub struct EventSender {
    client: Client,
    url: Url,
    timeout: Duration,
    retries: u32,
}

/// The result of an event.
pub struct EventDelivery {
    /// The result of the last attempt.
    pub outcome: SendOutcome,
    /// The number of attempts after the first one.
    pub retries: u32,
    /// The time from the first attempt to the answer, as a caller would wait.
    pub latency: Duration,
}

/// The result of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// Acknowledged with a status of 2xx.
    Acknowledged {
        /// The status of the answer.
        status: u16,
        /// The URL for the call, if the answer has one.
        sts_url: Option<String>,
    },
    /// The event was not acknowledged.
    Failed(SendFailure),
}

/// The reason why an event was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SendFailure {
    /// The answer had another status.
    Status(u16),
    /// There was no answer in time.
    Timeout,
    /// The connection failed, with this cause.
    NoConnection(String),
    /// The connection was closed before the answer was complete.
    ConnectionBroken,
}

impl EventSender {
    /// Creates a sender to this address. The timeout applies to one attempt.
    ///
    /// # Errors
    ///
    /// Fails if the address needs TLS and this machine cannot use it.
    pub fn new(
        url: Url,
        secret: Option<HeaderValue>,
        timeout: Duration,
        retries: u32,
    ) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(mut secret) = secret {
            secret.set_sensitive(true);
            headers.insert(SECRET_HEADER, secret);
        }
        let builder = || {
            Client::builder()
                .default_headers(headers.clone())
                // The run measures the receiver, not a proxy in between.
                .no_proxy()
                // A redirect is no acknowledgement; timeouts and retries are implemented
                // here.
                .redirect(redirect::Policy::none())
                .retry(retry::never())
        };
        let (client, no_roots) =
            tls::build_client(builder).context("cannot prepare connections")?;
        match no_roots {
            Some(no_roots) if url.scheme() == "https" => bail!("{}", no_roots.advice()),
            _ => {}
        }
        Ok(Self { client, url, timeout, retries })
    }

    /// Returns the address without its credentials.
    pub fn redacted_url(&self) -> String {
        let mut url = self.url.clone();
        // This fails for URLs that cannot have credentials.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// Posts a body until it is acknowledged or no attempt is left.
    pub async fn send(&self, body: &str) -> EventDelivery {
        let start = Instant::now();
        let mut retries = 0;
        loop {
            let attempt_result = tokio::time::timeout(self.timeout, self.send_once(body));
            let outcome = attempt_result.await.unwrap_or(SendOutcome::Failed(SendFailure::Timeout));
            if retries == self.retries || matches!(outcome, SendOutcome::Acknowledged { .. }) {
                return EventDelivery { outcome, retries, latency: start.elapsed() };
            }
            retries += 1;
        }
    }

    async fn send_once(&self, body: &str) -> SendOutcome {
        let request = self.client.post(self.url.clone()).body(body.to_owned());
        let outcome = match request.send().await {
            Ok(response) if response.status().is_success() => {
                let status = response.status().as_u16();
                read_body(response)
                    .await
                    .map(|body| SendOutcome::Acknowledged { status, sts_url: parse_sts_url(&body) })
            }
            Ok(response) => {
                Ok(SendOutcome::Failed(SendFailure::Status(response.status().as_u16())))
            }
            Err(error) => Err(error),
        };
        outcome.unwrap_or_else(|error| SendOutcome::Failed(SendFailure::from_error(&error)))
    }
}

impl SendFailure {
    /// Returns whether the result shows that a server answers.
    pub fn has_response(&self) -> bool {
        matches!(self, Self::Status(_))
    }

    fn from_error(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            Self::NoConnection(root_cause(error))
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::ConnectionBroken
        }
    }
}

impl fmt::Display for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::NoConnection(cause) => write!(f, "no connection: {cause}"),
            Self::ConnectionBroken => f.write_str("connection broken"),
        }
    }
}

/// Returns the root cause of an error: the layers above only say that they failed.
fn root_cause(error: &reqwest::Error) -> String {
    let chain = std::iter::successors(error.source(), |error| (*error).source());
    match chain.last() {
        Some(last) => match last.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => "refused".to_owned(),
            _ => last.to_string(),
        },
        None => error.to_string(),
    }
}

/// Reads the body to its end, so that the connection can be reused. A body that is longer than
/// any valid answer is cut.
async fn read_body(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= MAX_RESPONSE_BODY
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The only field that AVR Core reads.
fn parse_sts_url(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct StsUrlDocument {
        sts_url: String,
    }
    let answer: StsUrlDocument = serde_json::from_slice(body).ok()?;
    Some(answer.sts_url).filter(|sts_url| !sts_url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sts_url_must_be_non_empty_string() {
        assert_eq!(parse_sts_url(br#"{"sts_url":"ws://a","b":1}"#).as_deref(), Some("ws://a"));
        for none in ["", "{}", "[]", r#"{"sts_url":null}"#, r#"{"sts_url":""}"#, "ws://a"] {
            assert_eq!(parse_sts_url(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn redacted_url_has_no_credentials() {
        let url = "http://me:secret@127.0.0.1:9000/events".parse().unwrap();
        let sender = EventSender::new(url, None, Duration::from_secs(1), 0).unwrap();
        assert_eq!(sender.redacted_url(), "http://127.0.0.1:9000/events");
    }
}
