//! Text of a trap's backtrace.

use std::fmt;
use std::path::Path;

use plugboard_runtime::plugin::backtrace::Frame;

/// Frames of the plugin's own code, innermost first, each with its place in the source if
/// known. Frames of libraries are only counted.
pub(super) struct BacktraceText<'a>(pub(super) &'a [Frame]);

/// Consecutive frames that are shown as one line.
enum FrameGroup<'a> {
    /// The same frame and its number of repetitions, from a recursion.
    Repeated(&'a Frame, usize),
    /// Number of frames of libraries.
    Libraries(usize),
    /// Number of frames without a known name.
    Unnamed(usize),
}

impl fmt::Display for BacktraceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = std::env::current_dir().unwrap_or_default();
        let mut gap = "";
        for group in group_frames(self.0) {
            f.write_str(gap)?;
            gap = "\n";
            match group {
                FrameGroup::Libraries(count) => {
                    write!(f, "({} of libraries)", function_count_text(count))?
                }
                FrameGroup::Unnamed(count) => {
                    write!(f, "({} without a name)", function_count_text(count))?
                }
                FrameGroup::Repeated(frame, times) => {
                    match &frame.function {
                        Some(name) => f.write_str(name)?,
                        None => write!(f, "function {}", frame.index)?,
                    }
                    if times > 1 {
                        write!(f, " ({times} times)")?;
                    }
                    if let Some(file) = &frame.file {
                        let file = Path::new(file);
                        let file = file.strip_prefix(&here).unwrap_or(file);
                        write!(f, "\n  at {}", file.display())?;
                        if let Some(line) = frame.line {
                            write!(f, ":{line}")?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn function_count_text(count: usize) -> String {
    if count == 1 { "1 function".to_owned() } else { format!("{count} functions") }
}

fn group_frames(frames: &[Frame]) -> Vec<FrameGroup<'_>> {
    let mut groups: Vec<FrameGroup<'_>> = Vec::new();
    for run in frames.chunk_by(PartialEq::eq) {
        let Some(frame) = run.first() else { continue };
        let times = run.len();
        match groups.last_mut() {
            Some(FrameGroup::Libraries(count)) if frame.is_runtime_code() => *count += times,
            _ if frame.is_runtime_code() => groups.push(FrameGroup::Libraries(times)),
            // A repeated frame without a name is shown with its index.
            _ if frame.function.is_some() || times > 1 => {
                groups.push(FrameGroup::Repeated(frame, times))
            }
            Some(FrameGroup::Unnamed(count)) => *count += 1,
            _ => groups.push(FrameGroup::Unnamed(1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, place: Option<(&str, u32)>) -> Frame {
        let file = place.map(|(file, _)| file.to_owned());
        let line = place.map(|(_, line)| line);
        Frame { function: Some(function.to_owned()), index: 0, file, line }
    }

    fn unnamed(index: u32) -> Frame {
        Frame { function: None, index, file: None, line: None }
    }

    #[test]
    fn library_and_recursive_frames_are_counted() {
        let own = frame("vip::find", Some(("/elsewhere/src/lib.rs", 7)));
        let frames = [
            frame("std::process::abort", None),
            frame("core::panicking::panic_fmt", None),
            own.clone(),
            own,
            unnamed(12),
            unnamed(13),
            unnamed(7),
            unnamed(7),
            frame("<alloc::vec::Vec<T>>::push", None),
        ];
        assert_eq!(
            BacktraceText(&frames).to_string(),
            "(2 functions of libraries)\nvip::find (2 times)\n  at /elsewhere/src/lib.rs:7\n\
             (2 functions without a name)\nfunction 7 (2 times)\n(1 function of libraries)"
        );
    }
}
