//! The log format for people: time, level, target, message and fields on one line.
//!
//! Every call writes a line. The formatter of `tracing-subscriber` takes four times as long,
//! which is a seventh of a cached decision, so this module replaces it.

use std::cell::RefCell;
use std::fmt::{self, Debug, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The name of the field that holds the message.
const MESSAGE_FIELD: &str = "message";

/// The log format for people.
pub(super) struct HumanFormat;

impl<S, N> FormatEvent<S, N> for HumanFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let (dim, end) = if writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        writer.write_str(dim)?;
        write_time(&mut writer, SystemTime::now())?;
        writer.write_str(end)?;
        writer.write_str(level_label(*metadata.level(), writer.has_ansi_escapes()))?;
        writer.write_str(dim)?;
        writer.write_str(metadata.target())?;
        writer.write_str(": ")?;
        writer.write_str(end)?;
        // The message precedes the other fields.
        let mut message = LineVisitor { out: &mut writer, part: LinePart::Message, result: Ok(()) };
        event.record(&mut message);
        message.result?;
        let mut fields = LineVisitor { out: &mut writer, part: LinePart::Fields, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writer.write_char('\n')
    }
}

fn level_label(level: Level, colours: bool) -> &'static str {
    match (level, colours) {
        (Level::ERROR, false) => " ERROR ",
        (Level::WARN, false) => "  WARN ",
        (Level::INFO, false) => "  INFO ",
        (Level::DEBUG, false) => " DEBUG ",
        (Level::TRACE, false) => " TRACE ",
        (Level::ERROR, true) => " \x1b[31mERROR\x1b[0m ",
        (Level::WARN, true) => "  \x1b[33mWARN\x1b[0m ",
        (Level::INFO, true) => "  \x1b[32mINFO\x1b[0m ",
        (Level::DEBUG, true) => " \x1b[34mDEBUG\x1b[0m ",
        (Level::TRACE, true) => " \x1b[35mTRACE\x1b[0m ",
    }
}

/// Writes the time in UTC, with microseconds. The other digits are cached for a second.
fn write_time(out: &mut impl Write, now: SystemTime) -> fmt::Result {
    thread_local! {
        static CACHED_SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    CACHED_SECOND.with_borrow_mut(|(second, text)| {
        if *second != since_epoch.as_secs() {
            *second = since_epoch.as_secs();
            let time =
                i64::try_from(*second).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            let time = time.unwrap_or_default().to_string();
            *text = time.trim_end_matches('Z').to_owned();
        }
        out.write_str(text)
    })?;
    // This writes six digits faster than `fmt`.
    let mut digits = *b".000000Z";
    let mut micros = since_epoch.subsec_micros();
    for digit in digits.iter_mut().skip(1).take(6).rev() {
        *digit = b'0' + u8::try_from(micros % 10).unwrap_or(0);
        micros /= 10;
    }
    out.write_str(str::from_utf8(&digits).unwrap_or_default())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LinePart {
    Message,
    Fields,
}

/// Writes the message of an event, or its other fields.
struct LineVisitor<'a, 'w> {
    out: &'a mut Writer<'w>,
    part: LinePart,
    result: fmt::Result,
}

impl LineVisitor<'_, '_> {
    fn write_field(
        &mut self,
        field: &Field,
        write: impl FnOnce(&mut ControlEscaper<'_, Writer<'_>>) -> fmt::Result,
    ) {
        let is_message = field.name() == MESSAGE_FIELD;
        if self.result.is_err() || is_message != (self.part == LinePart::Message) {
            return;
        }
        let name = if is_message { Ok(()) } else { self.write_name(field.name()) };
        self.result = name.and_then(|()| write(&mut ControlEscaper(self.out)));
    }

    fn write_name(&mut self, name: &str) -> fmt::Result {
        self.out.write_char(' ')?;
        self.out.write_str(name)?;
        self.out.write_char('=')
    }
}

impl Visit for LineVisitor<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write_field(field, |out| write!(out, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~' if byte != b'"' && byte != b'\\');
        self.write_field(field, |out| match field.name() {
            MESSAGE_FIELD => out.write_str(value),
            _ if value.bytes().all(is_plain) => {
                out.0.write_char('"')?;
                out.0.write_str(value)?;
                out.0.write_char('"')
            }
            _ => write!(out, "{value:?}"),
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write_field(field, |out| out.0.write_str(if value { "true" } else { "false" }));
    }
}

/// Escapes control characters, so that a logged value can neither begin a line nor change a
/// terminal's colours.
struct ControlEscaper<'a, W>(&'a mut W);

impl<W: Write> Write for ControlEscaper<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| {
            if c.is_control() || is_invisible_control(c) {
                write!(self.0, "{}", c.escape_default())
            } else {
                self.0.write_char(c)
            }
        })
    }
}

/// Returns true for invisible characters that change the direction or the lines of text.
fn is_invisible_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Returns the output of `log`, without the time.
    fn capture_log(log: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct SharedBuffer(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for SharedBuffer {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let out = SharedBuffer::default();
        let make = {
            let out = out.clone();
            move || out.clone()
        };
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(make)
            .with_ansi(false)
            .event_format(HumanFormat);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        text.split_once("Z ").unwrap().1.to_owned()
    }

    #[test]
    fn line_has_level_target_message_and_fields() {
        let text = capture_log(|| {
            tracing::info!(target: "a", call = "x y", n = 5u64, on = true, o = ?Some(1), "done");
        });
        assert_eq!(text, " INFO a: done call=\"x y\" n=5 on=true o=Some(1)\n");
    }

    #[test]
    fn logged_values_cannot_start_a_new_line() {
        let hostile = "a\nINFO b\u{1b}[31m\"é\u{9b}\u{202e}";
        let text = capture_log(|| {
            tracing::warn!(target: "a", hostile, shown = %hostile, debug = ?hostile, "said {hostile}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(text.ends_with('\n') && text.contains("\\n") && text.contains('é'), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text}");
    }

    #[test]
    fn time_is_utc_with_microseconds() {
        for (micros, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (1_795_000_000_123_456, "2026-11-18T11:06:40.123456Z"),
            (1_795_000_000_999_999, "2026-11-18T11:06:40.999999Z"),
        ] {
            let mut text = String::new();
            write_time(&mut text, SystemTime::UNIX_EPOCH + Duration::from_micros(micros)).unwrap();
            assert_eq!(text, expected);
        }
    }
}
