//! Answers that somebody wrote down beforehand, to try a plugin without the services
//! that it asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::Value;

use super::{HttpError, Response};

/// What would be answered to a plugin's requests, each for so many times.
#[derive(Debug)]
pub struct Script {
    answers: Mutex<Vec<Answer>>,
    /// What to do about a request that is not in it.
    advice: &'static str,
}

/// One answer, as it is written in a file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
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

impl Script {
    /// Answers with the first answer that fits, and has one left. `advice` is what is
    /// said about requests that none fits.
    pub fn new(answers: Vec<Answer>, advice: &'static str) -> Self {
        Self { answers: Mutex::new(answers), advice }
    }

    /// The answer to a request. Redirects are answers like others.
    ///
    /// # Errors
    ///
    /// [`HttpError::Failed`] when there is none; names what was asked.
    pub(super) fn answer(&self, method: &str, url: &str) -> Result<Response, HttpError> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.iter_mut().find(|answer| {
            answer.times != Some(0) && answer.method == method && same(&answer.url, url)
        });
        let Some(answer) = answer else {
            return Err(HttpError::Failed(format!("{method} {url}: {}", self.advice)));
        };
        answer.times = answer.times.map(|times| times.saturating_sub(1));
        Ok(Response {
            status: answer.status,
            headers: answer
                .headers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
                .collect(),
            body: match &answer.body {
                Value::Null => Vec::new(),
                Value::String(text) => text.clone().into_bytes(),
                document => document.to_string().into_bytes(),
            },
        })
    }
}

/// Whether a URL that somebody wrote is the one that is asked for: `http://a` is
/// `http://a/`.
fn same(written: &str, asked: &str) -> bool {
    written == asked || url::Url::parse(written).is_ok_and(|url| url.as_str() == asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(json: &str) -> Script {
        Script::new(serde_json::from_str(json).unwrap(), "write it down")
    }

    #[test]
    fn each_answer_is_given_as_often_as_it_says() {
        let script = script(
            r#"[{"method": "GET", "url": "http://crm", "status": 503, "times": 1},
                {"method": "GET", "url": "http://crm/", "status": 200,
                 "headers": {"X-A": "b"}, "body": {"vip": true}}]"#,
        );
        let answer = || script.answer("GET", "http://crm/").unwrap();
        assert_eq!(answer().status, 503);
        let Response { status, headers, body } = answer();
        assert_eq!((status, &*body), (200, &br#"{"vip":true}"#[..]));
        assert_eq!(headers, [("x-a".to_owned(), "b".to_owned())]);
        assert_eq!(answer().status, 200);
    }

    #[test]
    fn what_is_not_in_it_is_named() {
        let script = script(r#"[{"method": "GET", "url": "http://crm/a", "status": 200}]"#);
        for (method, url) in [("POST", "http://crm/a"), ("GET", "http://crm/b")] {
            let error = script.answer(method, url).unwrap_err().to_string();
            assert_eq!(error, format!("failed: {method} {url}: write it down"));
        }
    }
}
