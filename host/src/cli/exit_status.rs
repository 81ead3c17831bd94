//! Exit statuses other than success and failure.

/// Exit status for an invalid configuration (BSD's `EX_CONFIG`).
pub(super) const EXIT_BAD_CONFIG: u8 = 78;

/// Exit status for an invalid command line, as clap uses it.
pub(super) const EXIT_BAD_USAGE: u8 = 2;
