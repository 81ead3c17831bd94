//! Limit of open files of the process.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to the maximum that the system allows. Each connection
/// needs a file, and the usual default of 1,024 is too low.
///
/// # Errors
///
/// If the system rejects the new limit.
pub(super) fn raise_file_limit() -> std::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
