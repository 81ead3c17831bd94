//! Collector of OpenTelemetry traces that decodes and records export requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use serde_json::{Value, json};
use tests::ServerBuilder;
use tokio::net::TcpListener;

/// Upper limit of a wait for spans that the server has not exported yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// Listening collector. It ends with the runtime of the test.
pub struct Otlp {
    endpoint: String,
    recording: Arc<Mutex<Recording>>,
}

/// Reaction of a collector to export requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    #[default]
    Accepts,
    /// Answers each request with this status.
    Rejects(u16),
    /// Receives requests, and never answers them.
    Hangs,
}

#[derive(Default)]
struct Recording {
    behaviour: Behaviour,
    requests: Vec<Request>,
    spans: Vec<Span>,
}

/// Export request of a server.
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    /// Encoded body of the request.
    pub body: Bytes,
    /// Attributes of the resource, which describes the server.
    pub resource: BTreeMap<String, Value>,
}

/// Span with the fields that tests compare.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Identifier of the parent span; empty for a root span.
    pub parent: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub attributes: BTreeMap<String, Value>,
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// Returns an attribute, or null if the span does not have it.
    pub fn get(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }

    /// Returns true if an attribute has this value.
    pub fn has(&self, name: &str, value: &Value) -> bool {
        self.get(name) == value
    }
}

impl Otlp {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let recording = Arc::new(Mutex::new(Recording { behaviour, ..Recording::default() }));
        let routes = Router::new().fallback(record).with_state(Arc::clone(&recording));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { endpoint, recording }
    }

    /// Returns the server setup with this collector as the destination of traces.
    pub fn configure(&self, setup: ServerBuilder) -> ServerBuilder {
        setup.env("PLUGBOARD_TRACES_OTLP_ENDPOINT", &self.endpoint)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// Waits until the recorded spans meet a condition, and returns them.
    pub async fn wait_for(&self, condition: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if condition(&spans) {
                return spans;
            }
            assert!(Instant::now() < deadline, "{} spans received: {spans:#?}", spans.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a number of webhook spans. Returns the trace of the latest one, ordered by
    /// start.
    pub async fn webhook(&self, count: usize) -> Vec<Span> {
        let webhooks = |spans: &[Span]| {
            let mut found: Vec<Span> =
                spans.iter().filter(|span| span.name == "webhook").cloned().collect();
            found.sort_by_key(|span| span.start);
            found
        };
        let spans = self.wait_for(|spans| webhooks(spans).len() >= count).await;
        let webhooks = webhooks(&spans);
        let last = webhooks.last().unwrap();
        let mut trace: Vec<Span> =
            spans.into_iter().filter(|span| span.trace == last.trace).collect();
        trace.sort_by_key(|span| span.start);
        trace
    }

    /// Returns the results of a function for all recorded requests.
    pub fn requests<T>(&self, function: impl Fn(&Request) -> T) -> Vec<T> {
        self.lock().requests.iter().map(function).collect()
    }

    /// Returns true if any recorded request contains this text.
    pub fn has_received(&self, text: &str) -> bool {
        let has = |body: &Bytes| body.windows(text.len()).any(|part| part == text.as_bytes());
        self.requests(|request| has(&request.body)).contains(&true)
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().unwrap()
    }
}

/// Returns the children of a span, in the order of the trace.
pub fn children<'a>(trace: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    trace.iter().filter(|span| span.parent == parent.id).collect()
}

async fn record(
    State(recording): State<Arc<Mutex<Recording>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = {
        let message = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        let mut recording = recording.lock().unwrap();
        let mut resource = BTreeMap::new();
        for group in message.resource_spans {
            resource = attributes(group.resource.unwrap().attributes);
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            recording.spans.extend(spans.map(|span| {
                assert!(span.events.is_empty() && span.trace_state.is_empty(), "{span:?}");
                Span {
                    trace: hex::encode(&span.trace_id),
                    id: hex::encode(&span.span_id),
                    parent: hex::encode(&span.parent_span_id),
                    kind: span.kind(),
                    failed: span.status.is_some_and(|status| status.code == 2),
                    attributes: attributes(span.attributes),
                    name: span.name,
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                }
            }));
        }
        let path = uri.path().to_owned();
        recording.requests.push(Request { path, headers, body, resource });
        recording.behaviour
    };
    match behaviour {
        Behaviour::Accepts => StatusCode::OK.into_response(),
        Behaviour::Rejects(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::Hangs => std::future::pending().await,
    }
}

fn attributes(attributes: Vec<KeyValue>) -> BTreeMap<String, Value> {
    let value = |value: any_value::Value| match value {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::IntValue(number) => json!(number),
        any_value::Value::BoolValue(flag) => json!(flag),
        other => json!(format!("{other:?}")),
    };
    let mut all = BTreeMap::new();
    for attribute in attributes {
        let decoded = value(attribute.value.unwrap().value.unwrap());
        // A repeated attribute would be an error of the server.
        assert!(all.insert(attribute.key.clone(), decoded).is_none(), "{} twice", attribute.key);
    }
    all
}
