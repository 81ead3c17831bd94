//! Prepared responses instead of the network, to try a plugin without its services.
//!
//! Grants and limits apply as they do to real requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use super::{HttpError, HttpResponse};

/// What would be answered to a plugin's requests, each for so many times.
#[derive(Debug)]
pub struct HttpMock {
    responses: Mutex<Vec<MockResponse>>,
    /// What to do about a request that is not in it.
    hint: &'static str,
}

/// One answer, as it is written in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MockResponse {
    /// In upper case.
    method: String,
    /// The whole URL, letter by letter, but for a fragment.
    url: String,
    /// The three digits.
    status: u16,
    /// Of the response.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Text as it stands, anything else as JSON. Without: empty.
    #[serde(default)]
    body: Value,
    /// How often it is given; then the next one for the same request is. Without:
    /// always.
    times: Option<u32>,
}

impl HttpMock {
    /// Answers with the first answer that fits, and has one left. `hint` is what is
    /// said about requests that none fits.
    pub fn new(responses: Vec<MockResponse>, hint: &'static str) -> Self {
        Self { responses: Mutex::new(responses), hint }
    }

    /// The answer to a request. Redirects are answers like others.
    ///
    /// # Errors
    ///
    /// [`HttpError::Failed`] when there is none; names what was asked.
    pub(super) fn respond(&self, method: &str, url: &str) -> Result<HttpResponse, HttpError> {
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        let response = responses.iter_mut().find(|answer| {
            answer.times != Some(0) && answer.method == method && is_same_url(&answer.url, url)
        });
        let Some(response) = response else {
            return Err(HttpError::Failed(format!("{method} {url}: {}", self.hint)));
        };
        response.times = response.times.map(|times| times.saturating_sub(1));
        Ok(HttpResponse {
            status: response.status,
            headers: response
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect(),
            body: match &response.body {
                Value::Null => Vec::new(),
                Value::String(text) => text.clone().into_bytes(),
                document => document.to_string().into_bytes(),
            },
        })
    }
}

/// Whether a URL that somebody wrote is the one that is asked for: `http://a` is
/// `http://a/`.
fn is_same_url(written: &str, requested: &str) -> bool {
    written == requested || url::Url::parse(written).is_ok_and(|url| url.as_str() == requested)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mock(json: &str) -> HttpMock {
        HttpMock::new(serde_json::from_str(json).unwrap(), "write it down")
    }

    #[test]
    fn mock_response_is_served_up_to_times() {
        let mock = mock(
            r#"[{"method": "GET", "url": "http://crm", "status": 503, "times": 1},
                {"method": "GET", "url": "http://crm/", "status": 200,
                 "headers": {"X-A": "b"}, "body": {"vip": true}}]"#,
        );
        let respond = || mock.respond("GET", "http://crm/").unwrap();
        assert_eq!(respond().status, 503);
        let HttpResponse { status, headers, body } = respond();
        assert_eq!((status, &*body), (200, &br#"{"vip":true}"#[..]));
        assert_eq!(headers, [("x-a".to_owned(), "b".to_owned())]);
        assert_eq!(respond().status, 200);
    }

    #[test]
    fn unmatched_request_is_named_in_error() {
        let mock = mock(r#"[{"method": "GET", "url": "http://crm/a", "status": 200}]"#);
        for (method, url) in [("POST", "http://crm/a"), ("GET", "http://crm/b")] {
            let error = mock.respond(method, url).unwrap_err().to_string();
            assert_eq!(error, format!("failed: {method} {url}: write it down"));
        }
    }
}
