//! Mock of the network: prepared responses, to test a plugin without its services.
//!
//! Grants and limits apply as for real requests.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::{HttpError, HttpResponse};

/// Prepared responses, each for a number of requests.
#[derive(Debug)]
pub struct HttpMock {
    responses: Mutex<Vec<MockResponse>>,
    /// Advice in the error of a request without a response.
    hint: &'static str,
}

/// One response, as written in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MockResponse {
    /// HTTP method, in upper case.
    method: String,
    /// Whole URL without a fragment, compared character by character.
    url: String,
    /// Status code of the response.
    status: u16,
    /// Headers of the response.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Body: a text is sent unchanged, any other value as JSON. Absent: empty.
    #[serde(default)]
    body: Value,
    /// Number of requests that this response answers before the next matching one is used.
    /// Absent: unlimited.
    times: Option<u32>,
}

impl HttpMock {
    /// Creates a mock that answers with the first matching response that has uses left.
    /// `hint` is the advice in the error of a request without a response.
    pub fn new(responses: Vec<MockResponse>, hint: &'static str) -> Self {
        Self { responses: Mutex::new(responses), hint }
    }

    /// Returns the response to a request. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// [`HttpError::Failed`] when no response matches; the message names the request.
    pub(super) fn respond(&self, method: &str, url: &str) -> Result<HttpResponse, HttpError> {
        let mut responses = self.responses.lock();
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

/// Returns whether a URL in the file is the requested one: `http://a` equals `http://a/`.
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
