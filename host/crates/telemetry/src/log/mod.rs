//! Where the program's own words go: standard error, for people or for machines.
//!
//! A call must not wait for whoever reads the log, nor pay for a system call, so
//! lines are gathered in memory and written by a thread of their own some times
//! a second. When the reader is so slow that they would fill the memory, they
//! are dropped and counted. (tracing-appender queues line by line, and waking
//! its thread cost a quarter of a decision.)

mod human;

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// How late a line may be: not noticed by a person, and many lines of a busy
/// server at once.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes that are kept for lines to come: a busy server's in one interval.
const RETAINED_BYTES: usize = 1 << 20;

/// Bytes that may wait to be written: some seconds of a busy server.
const MAX_BUFFERED_BYTES: usize = 16 << 20;

/// The running log. Writes what is left when it is dropped.
#[must_use = "the log ends with it"]
pub struct LogWriter {
    lines: LineBuffer,
    writer: Option<JoinHandle<()>>,
}

/// Starts the log, and beside it the traces, if there are any.
///
/// # Errors
///
/// When the level is none, there is a log already, or no thread to be had.
pub fn start(config: &LogConfig, traces: Option<&Traces>) -> anyhow::Result<LogWriter> {
    let level = traces::exclude_spans(config.level.parse::<Targets>()?);
    let lines = LineBuffer::default();
    match traces {
        // For everything, as there is one layer: a filter of its own would be asked
        // again for every line.
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

/// What makes lines of events.
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

/// Lines that wait to be written. Clones share them.
#[derive(Clone, Default)]
struct LineBuffer(Arc<Mutex<BufferedLines>>);

#[derive(Default)]
struct BufferedLines {
    text: Vec<u8>,
    dropped: u64,
    is_closed: bool,
}

impl LineBuffer {
    /// Writes what waits; whether that was the end.
    /// `text` is where it is taken to, so that neither grows anew each time.
    fn flush_to(&self, text: &mut Vec<u8>, mut out: impl Write) -> bool {
        text.clear();
        let (dropped, is_closed) = {
            let mut buffered = self.lock();
            mem::swap(&mut buffered.text, text);
            (mem::take(&mut buffered.dropped), buffered.is_closed)
        };
        // There is nowhere to say that the log cannot be written.
        _ = out.write_all(text);
        // A moment of many lines shall not take its memory for ever.
        text.shrink_to(RETAINED_BYTES);
        if dropped > 0 {
            tracing::warn!(lines = dropped, "the log is read too slowly; lines were dropped");
        }
        is_closed
    }

    fn lock(&self) -> MutexGuard<'_, BufferedLines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line, as the formatter hands it over.
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
