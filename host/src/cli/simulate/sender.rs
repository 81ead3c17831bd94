//! Posting one event as AVR Core does: a deadline, and perhaps further attempts.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, Url, redirect, retry};
use serde::Deserialize;

use crate::tls;

/// The shared secret's header.
const SECRET: &str = "x-avr-webhook-secret";

/// Longer than any answer that AVR could use, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// How events are posted.
pub struct Sender {
    client: Client,
    url: Url,
    timeout: Duration,
    retries: u32,
}

/// What became of an event.
pub struct Sent {
    /// The last attempt's end.
    pub outcome: Outcome,
    /// Attempts after the first.
    pub retries: u32,
    /// From the first attempt to the answer, as a caller would wait.
    pub latency: Duration,
}

/// How an attempt ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a status that says yes (2xx).
    Acknowledged {
        /// The status.
        status: u16,
        /// Where the call shall go, if the answer said so.
        sts_url: Option<String>,
    },
    /// Otherwise.
    Failed(Failure),
}

/// Why an event was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The answer had another status.
    Status(u16),
    /// There was no answer in time.
    Timeout,
    /// There was no connection, for this reason.
    NoConnection(String),
    /// The connection broke before the answer was there.
    Broken,
}

impl Sender {
    /// A sender to this address. The timeout is one attempt's.
    ///
    /// # Errors
    ///
    /// When this machine cannot make TLS connections, and the address needs one.
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
            headers.insert(SECRET, secret);
        }
        let builder = || {
            Client::builder()
                .default_headers(headers.clone())
                // What is measured is the receiver, and not what lies between.
                .no_proxy()
                // A redirect is not a yes, and the timeouts and retries are ours.
                .redirect(redirect::Policy::none())
                .retry(retry::never())
        };
        let (client, no_roots) = tls::client(builder).context("cannot prepare connections")?;
        match no_roots {
            Some(no_roots) if url.scheme() == "https" => bail!("{}", no_roots.advice()),
            _ => {}
        }
        Ok(Self { client, url, timeout, retries })
    }

    /// Where the events go, without the credentials in it.
    pub fn address(&self) -> String {
        let mut url = self.url.clone();
        // Fails where there can be none.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }

    /// Posts a body, until it is acknowledged or there is no attempt left.
    pub async fn send(&self, body: &str) -> Sent {
        let start = Instant::now();
        let mut retries = 0;
        loop {
            let attempt = tokio::time::timeout(self.timeout, self.attempt(body));
            let outcome = attempt.await.unwrap_or(Outcome::Failed(Failure::Timeout));
            if retries == self.retries || matches!(outcome, Outcome::Acknowledged { .. }) {
                return Sent { outcome, retries, latency: start.elapsed() };
            }
            retries += 1;
        }
    }

    async fn attempt(&self, body: &str) -> Outcome {
        let request = self.client.post(self.url.clone()).body(body.to_owned());
        let answer = match request.send().await {
            Ok(response) if response.status().is_success() => {
                let status = response.status().as_u16();
                read(response)
                    .await
                    .map(|body| Outcome::Acknowledged { status, sts_url: sts_url(&body) })
            }
            Ok(response) => Ok(Outcome::Failed(Failure::Status(response.status().as_u16()))),
            Err(error) => Err(error),
        };
        answer.unwrap_or_else(|error| Outcome::Failed(Failure::of(&error)))
    }
}

impl Failure {
    /// Whether it shows that somebody is there.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Status(_))
    }

    fn of(error: &reqwest::Error) -> Self {
        if error.is_connect() {
            Self::NoConnection(cause(error))
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Broken
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::NoConnection(cause) => write!(f, "no connection: {cause}"),
            Self::Broken => f.write_str("connection broken"),
        }
    }
}

/// What an error comes down to: the layers above only say that they failed.
fn cause(error: &reqwest::Error) -> String {
    let chain = std::iter::successors(error.source(), |error| (*error).source());
    match chain.last() {
        Some(last) => match last.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionRefused) => "refused".to_owned(),
            _ => last.to_string(),
        },
        None => error.to_string(),
    }
}

/// The body, to its end so that the connection can be used again; what is longer
/// than an answer can be is cut.
async fn read(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while body.len() <= MAX_ANSWER
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The only field that AVR Core reads.
fn sts_url(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        sts_url: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    Some(answer.sts_url).filter(|sts_url| !sts_url.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_is_an_sts_url() {
        assert_eq!(sts_url(br#"{"sts_url":"ws://a","b":1}"#).as_deref(), Some("ws://a"));
        for none in ["", "{}", "[]", r#"{"sts_url":null}"#, r#"{"sts_url":""}"#, "ws://a"] {
            assert_eq!(sts_url(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        let url = "http://me:secret@127.0.0.1:9000/events".parse().unwrap();
        let sender = Sender::new(url, None, Duration::from_secs(1), 0).unwrap();
        assert_eq!(sender.address(), "http://127.0.0.1:9000/events");
    }
}
