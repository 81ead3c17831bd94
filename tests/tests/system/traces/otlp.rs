//! A collector of OpenTelemetry traces, that reads what it is sent.

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

/// For what is on its way.
const PATIENCE: Duration = Duration::from_secs(30);

/// A listening collector; ended with the test's runtime.
pub struct Otlp {
    endpoint: String,
    kept: Arc<Mutex<Kept>>,
}

/// How a collector behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    #[default]
    Takes,
    /// Answers with this status.
    Refuses(u16),
    /// Never answers.
    Hangs,
}

#[derive(Default)]
struct Kept {
    behaviour: Behaviour,
    requests: Vec<Request>,
    spans: Vec<Span>,
}

/// A message.
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    /// As it was sent.
    pub body: Bytes,
    /// What it says of the program.
    pub resource: BTreeMap<String, Value>,
}

/// A span, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty: none.
    pub parent: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub attributes: BTreeMap<String, Value>,
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// An attribute; null, if it is not there.
    pub fn get(&self, name: &str) -> &Value {
        self.attributes.get(name).unwrap_or(&Value::Null)
    }

    /// Name and value of an attribute.
    pub fn has(&self, name: &str, value: &Value) -> bool {
        self.get(name) == value
    }
}

impl Otlp {
    pub async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let kept = Arc::new(Mutex::new(Kept { behaviour, ..Kept::default() }));
        let routes = Router::new().fallback(keep).with_state(Arc::clone(&kept));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { endpoint, kept }
    }

    /// A setup that sends its traces here.
    pub fn of(&self, setup: ServerBuilder) -> ServerBuilder {
        setup.env("PLUGBOARD_TRACES_ENDPOINT", &self.endpoint)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.lock().spans.clone()
    }

    /// Waits until what came is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let spans = self.spans();
            if wanted(&spans) {
                return spans;
            }
            assert!(Instant::now() < deadline, "{} spans came: {spans:#?}", spans.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many webhooks came; the trace of the last one, by the order of
    /// beginning.
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

    /// Looks at every message.
    pub fn requests<T>(&self, look: impl Fn(&Request) -> T) -> Vec<T> {
        self.lock().requests.iter().map(look).collect()
    }

    /// Whether any message has this text in it, in whatever place.
    pub fn was_told(&self, text: &str) -> bool {
        let has = |body: &Bytes| body.windows(text.len()).any(|part| part == text.as_bytes());
        self.requests(|request| has(&request.body)).contains(&true)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
}

/// The attributes of all children of a span, by their names.
pub fn children<'a>(trace: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    trace.iter().filter(|span| span.parent == parent.id).collect()
}

async fn keep(
    State(kept): State<Arc<Mutex<Kept>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = {
        let message = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        let mut kept = kept.lock().unwrap();
        let mut resource = BTreeMap::new();
        for of in message.resource_spans {
            resource = attributes(of.resource.unwrap().attributes);
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.spans.extend(spans.map(|span| {
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
        kept.requests.push(Request { path, headers, body, resource });
        kept.behaviour
    };
    match behaviour {
        Behaviour::Takes => StatusCode::OK.into_response(),
        Behaviour::Refuses(status) => StatusCode::from_u16(status).unwrap().into_response(),
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
        let given = value(attribute.value.unwrap().value.unwrap());
        // The same attribute twice would be an error of ours.
        assert!(all.insert(attribute.key.clone(), given).is_none(), "{} twice", attribute.key);
    }
    all
}
