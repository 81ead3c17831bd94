//! Where a plugin was when it trapped, for people.

use std::fmt;
use std::path::Path;

use crate::plugin::backtrace::Frame;

/// The frames of the author's own code, innermost first, each with its place in the
/// source, as far as that is known; of the others, how many there are.
pub(super) struct Shown<'a>(pub(super) &'a [Frame]);

/// Frames that are shown as one.
enum Group<'a> {
    /// The same one, so many times: a recursion.
    Own(&'a Frame, usize),
    /// So many of libraries.
    Others(usize),
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = std::env::current_dir().unwrap_or_default();
        let mut gap = "";
        for group in groups(self.0) {
            f.write_str(gap)?;
            gap = "\n";
            match group {
                Group::Others(1) => f.write_str("(1 frame of libraries)")?,
                Group::Others(count) => write!(f, "({count} frames of libraries)")?,
                Group::Own(frame, times) => {
                    f.write_str(&frame.function)?;
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

fn groups(frames: &[Frame]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for frame in frames {
        match groups.last_mut() {
            Some(Group::Own(same, times)) if *same == frame => *times += 1,
            Some(Group::Others(count)) if frame.is_noise() => *count += 1,
            _ if frame.is_noise() => groups.push(Group::Others(1)),
            _ => groups.push(Group::Own(frame, 1)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, place: Option<(&str, u32)>) -> Frame {
        let file = place.map(|(file, _)| file.to_owned());
        Frame { function: function.to_owned(), file, line: place.map(|(_, line)| line) }
    }

    #[test]
    fn libraries_and_recursions_are_counted() {
        let own = frame("vip::find", Some(("/elsewhere/src/lib.rs", 7)));
        let frames = [
            frame("std::process::abort", None),
            frame("core::panicking::panic_fmt", None),
            own.clone(),
            own,
            frame("function 12", None),
            frame("<alloc::vec::Vec<T>>::push", None),
        ];
        assert_eq!(
            Shown(&frames).to_string(),
            "(2 frames of libraries)\nvip::find (2 times)\n  at /elsewhere/src/lib.rs:7\n\
             function 12\n(1 frame of libraries)"
        );
    }
}
