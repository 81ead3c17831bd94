//! OpenTelemetry traces, as an option: what became of each webhook, plugin by plugin,
//! for those who look at slow calls with a collector of their own.
//!
//! [`spans`] has every span with its attributes, [`webhook`] where a trace begins and
//! which are begun, `export` how they leave. A span is one of `tracing`'s, with a target
//! of its own that the log never sees. Nothing in it is a caller's: no numbers, texts,
//! prompts, keys or paths.

mod export;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use plugboard_core::span::{CHILD_TARGET, ROOT_TARGET};

pub use self::export::{SpanCounts, Traces};

/// What of the program's own words is for the log: no spans.
pub fn exclude_spans(level: Targets) -> Targets {
    // The longest target that fits wins, so both.
    level.with_target(CHILD_TARGET, LevelFilter::OFF).with_target(ROOT_TARGET, LevelFilter::OFF)
}

/// Our spans, and nothing else.
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
        // As all of them are: so that what is below costs no more than without.
        Some(LevelFilter::INFO)
    }
}
