//! A service that plugins tell of events, and that keeps what it was told.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;

/// For what is on its way.
const EVENT_TIMEOUT: Duration = Duration::from_secs(180);

/// A listening service; ended with the test's runtime.
#[derive(Clone)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<CollectorState>>,
}

#[derive(Default)]
struct CollectorState {
    requests: Vec<CollectedRequest>,
    response: Option<ScriptedResponse>,
}

/// What is answered: status, headers, body.
type ScriptedResponse = (u16, Vec<(String, String)>, String);

/// What came.
#[derive(Clone, Debug)]
pub struct CollectedRequest {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, if it is JSON.
    pub body: Value,
}

impl Collector {
    /// Listens on a free port, and answers everything with 201.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(CollectorState::default()));
        let routes = Router::new().fallback(record_request).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, state }
    }

    /// The address, as a grant names it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Settings for the fixture guest `observer` that tells this of events.
    pub fn settings(&self, extra_settings: &str) -> String {
        format!(
            "[grants]\nhttp = ['{}']\n[config]\nurl = '{}'\n{extra_settings}",
            self.address,
            self.url("/")
        )
    }

    /// Answers like this from now on.
    pub fn respond_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.lock().response = Some((status, headers, body.to_owned()));
    }

    /// Everything that came so far.
    pub fn requests(&self) -> Vec<CollectedRequest> {
        self.lock().requests.clone()
    }

    /// The bodies of what came so far.
    pub fn events(&self) -> Vec<Value> {
        self.lock().requests.iter().map(|request| request.body.clone()).collect()
    }

    /// The kinds of the events of a call so far, in the order in which they came.
    pub fn event_kinds(&self, call: &str) -> Vec<String> {
        let events = self.events().into_iter().filter(|event| event["call"] == call);
        events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until what came is as wanted.
    pub async fn wait_for(&self, is_expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let events = self.events();
            if is_expected(&events) {
                return events;
            }
            assert!(Instant::now() < deadline, "{} came: {:?}", events.len(), events.last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many events came; all of them.
    pub async fn wait_for_count(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let received = self.lock().requests.len();
            if received >= count {
                return self.events();
            }
            assert!(Instant::now() < deadline, "{received} of {count} came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, CollectorState> {
        self.state.lock().unwrap()
    }
}

async fn record_request(
    State(state): State<Arc<Mutex<CollectorState>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut kept = state.lock().unwrap();
    kept.requests.push(CollectedRequest { method, uri, headers, body });
    let Some((status, headers, body)) = kept.response.clone() else {
        return StatusCode::CREATED.into_response();
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// How many events these are: what is told again has the id that it had.
pub fn count_distinct<'a>(events: impl IntoIterator<Item = &'a Value>) -> usize {
    let ids = events.into_iter().map(|event| event["id"].as_str().unwrap());
    ids.collect::<HashSet<_>>().len()
}
