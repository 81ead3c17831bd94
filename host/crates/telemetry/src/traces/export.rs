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

use super::SpanFilter;
use plugboard_config::TracesConfig;
use plugboard_core::span::set_sample_ratio;
use plugboard_core::text::sanitize;
use plugboard_tls::client_roots::{self as tls, MissingRootCertificates};

/// Spans that may wait to be sent, those under way included: each has about 1 KiB.
const MAX_QUEUED_SPANS: usize = 8192;

/// Spans of one message.
const MAX_BATCH_SPANS: usize = 512;

/// How late spans are sent, unless there are many.
const EXPORT_DELAY: Duration = Duration::from_secs(1);

/// For one message to be taken, with what is tried again.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// For what waits at the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the log tells of lost spans at the most.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Most of an answer that is read, in bytes: nothing in it is needed, but a connection
/// whose answer was read serves again.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// As much as a message has of the words of libraries and other sides, in bytes.
const MAX_REASON_BYTES: usize = 300;

/// What became of spans. Shared with its clones.
#[derive(Clone, Debug, Default)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub exported: Counter,
    /// Not taken, or there were too many.
    pub dropped: Counter,
}

/// The traces of this process.
pub struct Traces {
    provider: SdkTracerProvider,
    queue: Arc<SpanQueue>,
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
        let queue = Arc::new(SpanQueue::default());
        let client = CollectorClient::new(config, Arc::clone(&queue))?;
        let otlp = Otlp::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(config.endpoint.as_str())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("cannot send traces")?;
        let endpoint = config.endpoint.origin().ascii_serialization();
        let exporter = CountingExporter { otlp, endpoint, queue: Arc::clone(&queue) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUED_SPANS)
            .with_max_export_batch_size(MAX_BATCH_SPANS)
            .with_scheduled_delay(EXPORT_DELAY)
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
            .with_span_processor(BoundedSpanProcessor { batches, queue: Arc::clone(&queue) })
            .build();
        set_sample_ratio(config.sample);
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
            .with_filter(SpanFilter)
    }

    /// What became of spans.
    pub fn counts(&self) -> &SpanCounts {
        &self.queue.counts
    }

    /// Begins no further trace, and sends what waits, within two seconds.
    pub fn stop(self) {
        set_sample_ratio(0.0);
        if self.provider.shutdown_with_timeout(FLUSH_TIMEOUT).is_err() {
            let spans = self.queue.queued.load(Relaxed);
            tracing::warn!(spans, "spans are lost: the collector did not take them in time");
        }
    }
}

/// How many spans wait, and what became of the others.
#[derive(Debug, Default)]
struct SpanQueue {
    queued: AtomicUsize,
    counts: SpanCounts,
    failure: Mutex<ExportFailure>,
}

#[derive(Debug, Default)]
struct ExportFailure {
    /// What the last request came to, if not to an answer.
    reason: Option<String>,
    /// When the log told of it last, and of how many lost spans it has told.
    warned_at: Option<Instant>,
    warned_dropped: u64,
}

impl SpanQueue {
    /// Takes a place for a span. Whether there was one.
    fn try_reserve(&self) -> bool {
        let had_room = self.queued.fetch_add(1, Relaxed) < MAX_QUEUED_SPANS;
        if !had_room {
            self.queued.fetch_sub(1, Relaxed);
            self.counts.dropped.inc();
        }
        had_room
    }

    fn set_reason(&self, reason: Option<String>) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).reason = reason;
    }

    /// Tells of lost spans, though not all the time.
    fn warn_dropped(&self, endpoint: &str, error: Option<String>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = self.counts.dropped.get();
        let warned_recently = failure.warned_at.is_some_and(|told| told.elapsed() < WARN_INTERVAL);
        if dropped == failure.warned_dropped || warned_recently {
            return;
        }
        let spans = dropped - failure.warned_dropped;
        (failure.warned_at, failure.warned_dropped) = (Some(Instant::now()), dropped);
        let why = failure.reason.clone().or(error);
        let why = why.unwrap_or_else(|| "it is slower than spans are made".to_owned());
        let why = sanitize(&why, MAX_REASON_BYTES);
        tracing::warn!(endpoint, spans, why, "spans are lost: the collector does not take them");
    }
}

/// Lets no more spans wait than there may be.
#[derive(Debug)]
struct BoundedSpanProcessor {
    batches: BatchSpanProcessor,
    queue: Arc<SpanQueue>,
}

impl SpanProcessor for BoundedSpanProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.try_reserve() {
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
struct CountingExporter {
    otlp: Otlp,
    /// For the log: scheme, host and port.
    endpoint: String,
    queue: Arc<SpanQueue>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        let counts = &self.queue.counts;
        let counter = if result.is_ok() { &counts.exported } else { &counts.dropped };
        counter.inc_by(spans as u64);
        self.queue.queued.fetch_sub(spans, Relaxed);
        let error = result.as_ref().err().map(ToString::to_string);
        self.queue.warn_dropped(&self.endpoint, error);
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
struct CollectorClient {
    client: Client,
    /// Why https cannot work, if it cannot.
    missing_roots: Option<MissingRootCertificates>,
    /// The connections' own: the thread that sends has none, and those of the calls
    /// have other things to do.
    runtime: Runtime,
    queue: Arc<SpanQueue>,
}

impl CollectorClient {
    fn new(config: &TracesConfig, queue: Arc<SpanQueue>) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for header in &config.headers {
            let mut value: reqwest::header::HeaderValue = header.value().expose().parse()?;
            value.set_sensitive(true);
            headers.append(header.name(), value);
        }
        let (client, no_roots) = tls::build_client(|| {
            Client::builder()
                .default_headers(headers.clone())
                // Headers are for the collector alone.
                .redirect(Policy::none())
                .timeout(EXPORT_TIMEOUT)
        })?;
        let no_roots = no_roots.filter(|_| config.endpoint.scheme() == "https");
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("traces")
            .enable_all()
            .build()
            .context("cannot start a thread that sends traces")?;
        Ok(Self { client, missing_roots: no_roots, runtime, queue })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, reqwest::Error> {
        let mut response = self.client.execute(request.try_into()?).await?;
        let mut received = 0;
        while let Some(chunk) = response.chunk().await?
            && received < MAX_RESPONSE_BYTES
        {
            received += chunk.len();
        }
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the headers, which are secrets.
        f.write_str("Collector")
    }
}

impl HttpClient for CollectorClient {
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
            let answer = self.runtime.block_on(self.send(request));
            match answer {
                Ok(answer) => {
                    self.queue.set_reason(None);
                    Ok(answer)
                }
                Err(error) => {
                    let reason = match &self.missing_roots {
                        _ if error.is_timeout() => "it did not answer in time".to_owned(),
                        Some(no_roots) => no_roots.advice(),
                        None => tls::root_cause(&error),
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
    fn full_queue_drops_and_counts_spans() {
        let queue = SpanQueue::default();
        assert!((0..MAX_QUEUED_SPANS).all(|_| queue.try_reserve()));
        assert!(!queue.try_reserve() && !queue.try_reserve());
        assert_eq!((queue.counts.dropped.get(), queue.queued.load(Relaxed)), (2, MAX_QUEUED_SPANS));
        queue.queued.fetch_sub(1, Relaxed);
        assert!(queue.try_reserve() && !queue.try_reserve());
    }

    #[test]
    fn dropped_spans_are_logged_once_a_minute() {
        let queue = SpanQueue::default();
        let warned_dropped = || queue.failure.lock().unwrap().warned_dropped;
        queue.warn_dropped("http://a", None);
        assert!(queue.failure.lock().unwrap().warned_at.is_none());
        queue.counts.dropped.inc_by(3);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 3);
        queue.counts.dropped.inc_by(4);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 3);
        queue.failure.lock().unwrap().warned_at = Instant::now().checked_sub(WARN_INTERVAL);
        queue.warn_dropped("http://a", None);
        assert_eq!(warned_dropped(), 7);
    }
}
