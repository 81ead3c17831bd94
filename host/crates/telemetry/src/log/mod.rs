//! The log: lines on standard error, as text for people or as JSON.
//!
//! A call must not wait for the reader of the log, nor pay for a system call. Lines are
//! therefore buffered in memory, and a thread writes them several times a second. If the reader
//! is too slow, further lines are dropped and counted. (`tracing-appender` queues each line,
//! and waking its thread cost a quarter of a decision.)

mod human;

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tracing::Subscriber;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use self::human::HumanFormat;
use crate::traces::{self, Traces};
use plugboard_config::{LogConfig, LogFormat};

/// Maximum delay of a line. A person does not notice it, and a busy server writes many lines at
/// once.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// Capacity that the buffer keeps, in bytes: the lines of a busy server in one interval.
const RETAINED_BYTES: usize = 1 << 20;

/// Maximum number of buffered bytes: some seconds of a busy server.
const MAX_BUFFERED_BYTES: usize = 16 << 20;

/// The running log. Writes the remaining lines when dropped.
#[must_use = "the log ends with it"]
pub struct LogWriter {
    lines: LineBuffer,
    writer: Option<JoinHandle<()>>,
}

/// Starts the log, and installs the trace exporter's layer beside it.
///
/// # Errors
///
/// Fails if the level is not valid, a log is already running, or no thread can be started.
pub fn start(config: &LogConfig, traces: Option<&Traces>) -> anyhow::Result<LogWriter> {
    let level = traces::exclude_spans(config.level.parse::<Targets>()?);
    let lines = LineBuffer::default();
    match traces {
        // The filter is global, because there is one layer: a filter of the layer would be
        // evaluated again for every line.
        None => registry().with(level).with(format_layer(config, &lines)).try_init()?,
        Some(traces) => {
            let log = format_layer(config, &lines).with_filter(level);
            registry().with(traces.layer()).with(log).try_init()?;
        }
    }
    let writer = std::thread::Builder::new().name("log".to_owned()).spawn({
        let lines = lines.clone();
        move || {
            let mut text = Vec::new();
            while !lines.flush_to(&mut text, io::stderr().lock()) {
                std::thread::park_timeout(FLUSH_INTERVAL);
            }
        }
    })?;
    Ok(LogWriter { lines, writer: Some(writer) })
}

/// Returns the layer that formats events as lines.
fn format_layer<S>(config: &LogConfig, lines: &LineBuffer) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(lines.clone());
    match config.format {
        LogFormat::Human => {
            layer.with_ansi(io::stderr().is_terminal()).event_format(HumanFormat).boxed()
        }
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.lines.lock().is_closed = true;
        if let Some(writer) = self.writer.take() {
            writer.thread().unpark();
            _ = writer.join();
        }
    }
}

/// The buffered lines. Clones share them.
#[derive(Clone, Default)]
struct LineBuffer(Arc<Mutex<BufferedLines>>);

#[derive(Default)]
struct BufferedLines {
    text: Vec<u8>,
    dropped: u64,
    is_closed: bool,
}

impl LineBuffer {
    /// Writes the buffered lines to `out`. Returns true if the log is closed. `text` is the
    /// buffer that is swapped in, so that both keep their capacity.
    fn flush_to(&self, text: &mut Vec<u8>, mut out: impl Write) -> bool {
        text.clear();
        let (dropped, is_closed) = {
            let mut buffered = self.lock();
            mem::swap(&mut buffered.text, text);
            (mem::take(&mut buffered.dropped), buffered.is_closed)
        };
        // An error of the log itself cannot be reported.
        _ = out.write_all(text);
        // A burst of lines must not keep its memory.
        text.shrink_to(RETAINED_BYTES);
        if dropped > 0 {
            tracing::warn!(lines = dropped, "standard error is read too slowly; log lines dropped");
        }
        is_closed
    }

    fn lock(&self) -> MutexGuard<'_, BufferedLines> {
        self.0.lock()
    }
}

/// Receives one line from the formatter.
impl Write for LineBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffered = self.lock();
        if buffered.text.len() + line.len() > MAX_BUFFERED_BYTES {
            buffered.dropped += 1;
        } else {
            buffered.text.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineBuffer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_once_and_excess_is_dropped() {
        let mut lines = LineBuffer::default();
        let line = vec![b'x'; MAX_BUFFERED_BYTES - 1];
        Write::write(&mut lines, &line).unwrap();
        Write::write(&mut lines, b"ab").unwrap();
        Write::write(&mut lines, b"c").unwrap();
        assert_eq!(lines.lock().dropped, 1);
        let mut out = Vec::new();
        assert!(!LineBuffer::flush_to(&lines, &mut Vec::new(), &mut out));
        assert_eq!(out.len(), MAX_BUFFERED_BYTES);
        assert!(out.ends_with(b"xc"));
        lines.lock().is_closed = true;
        assert!(LineBuffer::flush_to(&lines, &mut Vec::new(), &mut out));
        assert_eq!(out.len(), MAX_BUFFERED_BYTES);
    }
}
