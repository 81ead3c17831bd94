//! HTTP service that records the requests of plugins, such as events of an observer.

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

/// Time limit for events that are still to be delivered.
const EVENT_TIMEOUT: Duration = Duration::from_secs(180);

/// Listening service. It ends with the test's runtime.
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

/// Response to each request: status, headers and body.
type ScriptedResponse = (u16, Vec<(String, String)>, String);

/// Request that the service received.
#[derive(Clone, Debug)]
pub struct CollectedRequest {
    /// Method of the request.
    pub method: Method,
    /// Path and query of the request.
    pub uri: Uri,
    /// Headers of the request.
    pub headers: HeaderMap,
    /// Body as JSON, or null if it is invalid JSON.
    pub body: Value,
}

impl Collector {
    /// Listens on a free port, and answers every request with 201.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(CollectorState::default()));
        let routes = Router::new().fallback(record_request).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, state }
    }

    /// Returns the address in the format of the `http` grant.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns a URL of this service.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns settings of the fixture guest `observer` that send events to this service.
    pub fn settings(&self, extra_settings: &str) -> String {
        format!(
            "[grants]\nhttp = ['{}']\n[config]\nurl = '{}'\n{extra_settings}",
            self.address,
            self.url("/")
        )
    }

    /// Sets the response to all further requests.
    pub fn respond_with(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.lock().response = Some((status, headers, body.to_owned()));
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<CollectedRequest> {
        self.lock().requests.clone()
    }

    /// Returns the bodies of the requests received so far.
    pub fn events(&self) -> Vec<Value> {
        self.lock().requests.iter().map(|request| request.body.clone()).collect()
    }

    /// Returns the kinds of the events of a call, in the order of their arrival.
    pub fn event_kinds(&self, call: &str) -> Vec<String> {
        let events = self.events().into_iter().filter(|event| event["call"] == call);
        events.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the bodies received so far satisfy a condition, and returns them.
    pub async fn wait_for(&self, is_expected: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let events = self.events();
            if is_expected(&events) {
                return events;
            }
            assert!(Instant::now() < deadline, "{} received: {:?}", events.len(), events.last());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until at least `count` requests were received, and returns all bodies.
    pub async fn wait_for_count(&self, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + EVENT_TIMEOUT;
        loop {
            let received = self.lock().requests.len();
            if received >= count {
                return self.events();
            }
            assert!(Instant::now() < deadline, "{received} of {count} received");
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
    let mut state = state.lock().unwrap();
    state.requests.push(CollectedRequest { method, uri, headers, body });
    let Some((status, headers, body)) = state.response.clone() else {
        return StatusCode::CREATED.into_response();
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Returns the number of distinct events. A redelivered event keeps its id.
pub fn count_distinct<'a>(events: impl IntoIterator<Item = &'a Value>) -> usize {
    let ids = events.into_iter().map(|event| event["id"].as_str().unwrap());
    ids.collect::<HashSet<_>>().len()
}
