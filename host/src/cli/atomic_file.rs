//! Files that are written completely or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Mode of a new file without a model, before the umask applies. Another user may need to
/// read the file.
const DEFAULT_MODE: u32 = 0o666;

/// Permission bits of a file mode.
const PERMISSION_BITS: u32 = 0o7777;

/// Writes a temporary file beside `path`. `persist` renames it to `path` atomically; without
/// it, the file is removed on drop. A server ignores the temporary name.
///
/// The file can contain secrets, so it gets the permissions of the file that it replaces.
/// Without such a file, it gets those of `permissions_from`.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn write_temporary(
    path: &Path,
    bytes: &[u8],
    permissions_from: Option<&Path>,
) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let permissions_source =
        fs::metadata(path).ok().or_else(|| fs::metadata(permissions_from?).ok());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".plugboard-");
    if permissions_source.is_none() {
        builder.permissions(Permissions::from_mode(DEFAULT_MODE));
    }
    let mut file = builder.tempfile_in(folder)?;
    if let Some(model) = permissions_source {
        let mode = model.permissions().mode() & PERMISSION_BITS;
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_permissions_are_preserved_on_replacement() {
        let folder = tempfile::tempdir().unwrap();
        let [new, old, from] = ["new", "old", "from"].map(|name| folder.path().join(name));
        for (file, mode) in [(&old, 0o600), (&from, 0o640)] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
        }
        let written_mode = |path: &Path, from: Option<&Path>| {
            write_temporary(path, b"text", from).unwrap().persist(path).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"text");
            fs::metadata(path).unwrap().permissions().mode() & PERMISSION_BITS
        };
        assert_eq!(written_mode(&old, Some(&from)), 0o600);
        assert_eq!(written_mode(&new, Some(&from)), 0o640);
        fs::remove_file(&new).unwrap();
        let default_mode = written_mode(&new, None);
        assert!(default_mode & 0o600 == 0o600 && default_mode & 0o111 == 0, "{default_mode:o}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
