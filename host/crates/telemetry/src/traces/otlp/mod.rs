//! Export of spans by OTLP over HTTP, from its own thread. A slow or unreachable collector
//! causes dropped spans, which are counted, and never delays a call.

mod client;
mod queue;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use self::client::{CollectorClient, EXPORT_TIMEOUT};
use self::queue::{BoundedSpanProcessor, CountingExporter, MAX_QUEUED_SPANS, SpanQueue};
pub use self::remote::RemoteSpan;
use super::SpanCounts;
use plugboard_config::TracesConfig;
use plugboard_core::span::{CHILD_TARGET, ROOT_TARGET, set_sample_ratio};

/// Maximum number of spans in one request.
const MAX_BATCH_SPANS: usize = 512;

/// Maximum time for which a span waits for its batch to fill.
const EXPORT_DELAY: Duration = Duration::from_secs(1);

/// Time limit for the export of the remaining spans at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The trace exporter of this process.
pub struct Traces {
    provider: SdkTracerProvider,
    queue: Arc<SpanQueue>,
}

impl Traces {
    /// Starts the export thread. Must not be called within a Tokio runtime: the exporter
    /// has its own, so that the threads that answer calls never send spans. No span is
    /// recorded before the [layer](Self::layer) is installed.
    ///
    /// # Errors
    ///
    /// Fails if a thread or the HTTP client cannot be created.
    pub fn start(config: &TracesConfig) -> anyhow::Result<Self> {
        let queue = Arc::new(SpanQueue::default());
        let client = CollectorClient::new(config, Arc::clone(&queue))?;
        let otlp = OtlpExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(config.otlp_endpoint.as_str())
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("cannot send traces")?;
        let endpoint = config.otlp_endpoint.origin().ascii_serialization();
        let exporter = CountingExporter { otlp, endpoint, queue: Arc::clone(&queue) };
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUED_SPANS)
            .with_max_export_batch_size(MAX_BATCH_SPANS)
            .with_scheduled_delay(EXPORT_DELAY)
            .build();
        let batches = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder()
            .with_service_name(config.service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // A root span that is not sampled does not exist or has an unsampled parent.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_span_processor(BoundedSpanProcessor { batches, queue: Arc::clone(&queue) })
            .build();
        set_sample_ratio(config.sample_ratio);
        Ok(Self { provider, queue })
    }

    /// Returns the layer that turns `tracing` spans into OpenTelemetry spans.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let scope = InstrumentationScope::builder("plugboard")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer_with_scope(scope))
            // A span's parent is the `tracing` span around it. No code reads OpenTelemetry's
            // own current context.
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_filter(SpanFilter)
    }

    /// Returns the numbers of exported and dropped spans.
    pub fn counts(&self) -> &SpanCounts {
        &self.queue.counts
    }

    /// Stops sampling, and exports the remaining spans within `FLUSH_TIMEOUT`.
    pub fn stop(self) {
        set_sample_ratio(0.0);
        if self.provider.shutdown_with_timeout(FLUSH_TIMEOUT).is_err() {
            let spans = self.queue.len();
            tracing::warn!(
                spans,
                "spans dropped at shutdown: the collector did not accept them in time"
            );
        }
    }
}

/// A filter that passes only the spans of traces. A child span needs a span around it.
struct SpanFilter;

impl SpanFilter {
    fn is_own_span(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && matches!(metadata.target(), CHILD_TARGET | ROOT_TARGET)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for SpanFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Self::is_own_span(metadata)
            && (metadata.target() == ROOT_TARGET || context.lookup_current().is_some())
    }

    fn callsite_enabled(
        &self,
        metadata: &'static Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        use tracing::subscriber::Interest;
        match metadata.target() {
            _ if !Self::is_own_span(metadata) => Interest::never(),
            ROOT_TARGET => Interest::always(),
            _ => Interest::sometimes(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // All spans of this program have this level, so that lower levels cost no more than
        // without traces.
        Some(LevelFilter::INFO)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::registry;

    use super::*;

    fn config(collector: SocketAddr) -> TracesConfig {
        TracesConfig {
            otlp_endpoint: format!("http://{collector}/v1/traces").parse().unwrap(),
            headers: Vec::new(),
            sample_ratio: 1.0,
            service_name: "plugboard".to_owned(),
        }
    }

    /// Records one span, and returns the counts of exported and dropped spans, and the
    /// reason of the last failed request.
    fn export_one_span(collector: SocketAddr) -> (u64, u64, Option<String>) {
        let traces = Traces::start(&config(collector)).unwrap();
        let queue = Arc::clone(&traces.queue);
        tracing::subscriber::with_default(registry().with(traces.layer()), || {
            tracing::info_span!(target: ROOT_TARGET, "webhook");
        });
        traces.stop();
        (queue.counts.exported.get(), queue.counts.dropped.get(), queue.reason())
    }

    /// Answers one request with this status line.
    fn start_collector(status: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut length = 0;
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn spans_are_counted_as_exported_or_dropped() {
        assert_eq!(export_one_span(start_collector("200 OK")), (1, 0, None));
        assert_eq!(export_one_span(start_collector("400 Bad Request")), (0, 1, None));
    }

    #[test]
    fn transport_error_is_kept_as_reason() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (queue, config) = (Arc::new(SpanQueue::default()), config(gone));
        let client = CollectorClient::new(&config, Arc::clone(&queue)).unwrap();
        let request = opentelemetry_http::Request::post(config.otlp_endpoint.as_str());
        let request = request.body(opentelemetry_http::Bytes::new()).unwrap();
        // The future blocks, so it is ready at the first poll.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let send = opentelemetry_http::HttpClient::send_bytes(&client, request);
        assert!(std::pin::pin!(send).poll(&mut context).is_ready());
        let reason = queue.reason().unwrap();
        assert!(reason.contains("refused"), "{reason}");
    }
}
