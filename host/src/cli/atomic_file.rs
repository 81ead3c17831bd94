//! Files that are written completely or not at all.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What a file has that nothing is known about, less what the user's mask takes away: it
/// may be another user who reads it.
const DEFAULT_MODE: u32 = 0o666;

/// The bits of a mode that say who may do what.
const PERMISSION_BITS: u32 = 0o7777;

/// A file that can get this path as its name (`persist`), in one step; gone again unless it
/// does. Until then its name is one that no server looks at. Who may read it is as for the
/// file that it replaces, else as for the one that its bytes are from: there may be secrets
/// in it.
///
/// # Errors
///
/// When it cannot be written.
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
