//! How spans leave: gathered, and sent to the collector by a thread of their own. A
//! collector that is slow or gone costs spans, which are counted, and never a call.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use reqwest::Client;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use tokio::runtime::{self, Runtime};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use super::OnlySpans;
use crate::capability::log::quote;
use crate::config::TracesConfig;
use crate::tls::{self, NoRoots};

/// Spans that may wait to be sent, those under way included: each has about 1 KiB.
const QUEUE: usize = 8192;

/// Spans of one message.
const BATCH: usize = 512;

/// How late spans are sent, unless there are many.
const DELAY: Duration = Duration::from_secs(1);

/// For one message to be taken, with what is tried again.
const PATIENCE: Duration = Duration::from_secs(5);

/// For what waits at the end of the process.
const FLUSH: Duration = Duration::from_secs(2);

/// How often the log tells of lost spans at the most.
const COMPLAINT: Duration = Duration::from_secs(60);

/// Most of an answer that is read, in bytes: nothing in it is needed, but a connection
/// whose answer was read serves again.
const MAX_ANSWER: usize = 64 << 10;

/// As much as a message has of the words of libraries and other sides, in bytes.
const MAX_REASON: usize = 300;

/// What became of spans. Shared with its clones.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Taken by the collector.
    pub exported: Counter,
    /// Not taken, or there were too many.
    pub lost: Counter,
}

/// The traces of this process.
pub struct Traces {
    provider: SdkTracerProvider,
    queue: Arc<Queue>,
}

impl Traces {
    /// Starts what sends spans. Not within a runtime: it has one of its own, so that
    /// nobody who answers calls sends spans. No span is made before [`Traces::layer`] is
    /// in its place.
    ///
    /// # Errors
    ///
    /// When there are no threads to be had, or no client can be made.
    pub fn start(config: &TracesConfig) -> anyhow::Result<Self> {
        let queue = Arc::new(Queue::default());
        let client = Collector::new(config, Arc::clone(&queue))?;
        let otlp = Otlp::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(config.endpoint.as_str())
            .with_timeout(PATIENCE)
            .build()
            .context("cannot send traces")?;
        let endpoint = config.endpoint.origin().ascii_serialization();
        let exporter = Exporter { otlp, endpoint, queue: Arc::clone(&queue) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name(config.service.clone())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // What is not to be traced has no span, or a parent that says so.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_span_processor(Bounded { batches, queue: Arc::clone(&queue) })
            .build();
        super::share(config.sample);
        Ok(Self { provider, queue })
    }

    /// What makes OpenTelemetry's spans of ours.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let scope = InstrumentationScope::builder("plugboard")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer_with_scope(scope))
            // A span's parent is the one that it is made in; nobody else asks.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(OnlySpans)
    }

    /// What became of spans.
    pub fn counts(&self) -> &Counts {
        &self.queue.counts
    }

    /// Begins no further trace, and sends what waits, within two seconds.
    pub fn stop(self) {
        super::share(0.0);
        if self.provider.shutdown_with_timeout(FLUSH).is_err() {
            let spans = self.queue.waiting.load(Relaxed);
            tracing::warn!(spans, "spans are lost: the collector did not take them in time");
        }
    }
}

/// How many spans wait, and what became of the others.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    counts: Counts,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// What the last request came to, if not to an answer.
    reason: Option<String>,
    /// When the log told of it last, and of how many lost spans it has told.
    told: Option<Instant>,
    told_lost: u64,
}

impl Queue {
    /// Takes a place for a span. Whether there was one.
    fn enter(&self) -> bool {
        let had_room = self.waiting.fetch_add(1, Relaxed) < QUEUE;
        if !had_room {
            self.waiting.fetch_sub(1, Relaxed);
            self.counts.lost.inc();
        }
        had_room
    }

    fn set_reason(&self, reason: Option<String>) {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).reason = reason;
    }

    /// Tells of lost spans, though not all the time.
    fn complain(&self, endpoint: &str, error: Option<String>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = self.counts.lost.get();
        let is_soon = trouble.told.is_some_and(|told| told.elapsed() < COMPLAINT);
        if lost == trouble.told_lost || is_soon {
            return;
        }
        let spans = lost - trouble.told_lost;
        (trouble.told, trouble.told_lost) = (Some(Instant::now()), lost);
        let why = trouble.reason.clone().or(error);
        let why = why.unwrap_or_else(|| "it is slower than spans are made".to_owned());
        let why = quote(&why, MAX_REASON);
        tracing::warn!(endpoint, spans, why, "spans are lost: the collector does not take them");
    }
}

/// Lets no more spans wait than there may be.
#[derive(Debug)]
struct Bounded {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what is sent.
#[derive(Debug)]
struct Exporter {
    otlp: Otlp,
    /// For the log: scheme, host and port.
    endpoint: String,
    queue: Arc<Queue>,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        let counts = &self.queue.counts;
        let counter = if result.is_ok() { &counts.exported } else { &counts.lost };
        counter.inc_by(spans as u64);
        self.queue.waiting.fetch_sub(spans, Relaxed);
        let error = result.as_ref().err().map(ToString::to_string);
        self.queue.complain(&self.endpoint, error);
        result
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.otlp.shutdown()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

/// The collector, as a client sees it.
struct Collector {
    client: Client,
    /// Why https cannot work, if it cannot.
    no_roots: Option<NoRoots>,
    /// The connections' own: the thread that sends has none, and those of the calls
    /// have other things to do.
    runtime: Runtime,
    queue: Arc<Queue>,
}

impl Collector {
    fn new(config: &TracesConfig, queue: Arc<Queue>) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for header in &config.headers {
            let mut value: reqwest::header::HeaderValue = header.value().text().parse()?;
            value.set_sensitive(true);
            headers.append(header.name(), value);
        }
        let (client, no_roots) = tls::client(|| {
            Client::builder()
                .default_headers(headers.clone())
                // Headers are for the collector alone.
                .redirect(Policy::none())
                .timeout(PATIENCE)
        })?;
        let no_roots = no_roots.filter(|_| config.endpoint.scheme() == "https");
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .context("cannot start a thread that sends traces")?;
        Ok(Self { client, no_roots, runtime, queue })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, reqwest::Error> {
        let mut response = self.client.execute(request.try_into()?).await?;
        let mut read = 0;
        while let Some(chunk) = response.chunk().await?
            && read < MAX_ANSWER
        {
            read += chunk.len();
        }
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the headers, which are secrets.
        f.write_str("Collector")
    }
}

impl HttpClient for Collector {
    // What `async_trait` would make of it.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            // Of the thread that does nothing but sending, so it may be blocked.
            let answer = self.runtime.block_on(self.exchange(request));
            match answer {
                Ok(answer) => {
                    self.queue.set_reason(None);
                    Ok(answer)
                }
                Err(error) => {
                    let reason = match &self.no_roots {
                        _ if error.is_timeout() => "it did not answer in time".to_owned(),
                        Some(no_roots) => no_roots.advice(),
                        None => tls::root_of(&error),
                    };
                    self.queue.set_reason(Some(reason));
                    Err(error.without_url().into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_spans_wait_than_there_is_room_for() {
        let queue = Queue::default();
        assert!((0..QUEUE).all(|_| queue.enter()));
        assert!(!queue.enter() && !queue.enter());
        assert_eq!((queue.counts.lost.get(), queue.waiting.load(Relaxed)), (2, QUEUE));
        queue.waiting.fetch_sub(1, Relaxed);
        assert!(queue.enter() && !queue.enter());
    }

    #[test]
    fn the_log_is_told_of_lost_spans_once_a_minute() {
        let queue = Queue::default();
        let told = || queue.trouble.lock().unwrap().told_lost;
        queue.complain("http://a", None);
        assert!(queue.trouble.lock().unwrap().told.is_none());
        queue.counts.lost.inc_by(3);
        queue.complain("http://a", None);
        assert_eq!(told(), 3);
        queue.counts.lost.inc_by(4);
        queue.complain("http://a", None);
        assert_eq!(told(), 3);
        queue.trouble.lock().unwrap().told = Instant::now().checked_sub(COMPLAINT);
        queue.complain("http://a", None);
        assert_eq!(told(), 7);
    }
}
