//! Fake network with prepared responses.

use std::collections::{BTreeMap, VecDeque};

use crate::http::{Error, Request, Response};

#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Prepared results by method and URL, in the order of their use.
    script: BTreeMap<(String, String), VecDeque<Result<Response, Error>>>,
    sent: Vec<Request>,
}

impl Network {
    pub(super) fn answer(&mut self, method: &str, url: &str, answer: Result<Response, Error>) {
        self.script.entry((method.to_owned(), url.to_owned())).or_default().push_back(answer);
    }

    pub(super) fn sent(&self) -> Vec<Request> {
        self.sent.clone()
    }

    pub(crate) fn send(&mut self, request: Request) -> Result<Response, Error> {
        let key = (request.method.clone(), request.url.clone());
        self.sent.push(request);
        let scripted = self.script.get_mut(&key).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| Err(Error::NotGranted(authority(&key.1).to_owned())))
    }
}

/// Returns `host:port` of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}
