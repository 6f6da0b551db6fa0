// SPDX-License-Identifier: GPL-2.0

//! Which device a file is, so that it gets the ioctl numbers of its own driver only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

/// Where a device node's device is in sysfs.
///
/// # Errors
///
/// `ENOTTY` if the file is no device node.
pub(crate) fn sysfs(file: &File) -> io::Result<PathBuf> {
    let status = file.metadata()?;
    let kind = status.file_type();
    let class = match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => "block",
        (_, true) => "char",
        _ => return Err(io::Error::from_raw_os_error(libc::ENOTTY)),
    };
    let (major, minor) = (libc::major(status.rdev()), libc::minor(status.rdev()));
    fs::canonicalize(format!("/sys/dev/{class}/{major}:{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_devices_from_files() {
        let null = File::open("/dev/null").expect("it");
        if let Ok(path) = sysfs(&null) {
            assert!(path.ends_with("mem/null"), "{path:?}");
        }
        let file = tempfile::tempfile().expect("a file");
        let error = sysfs(&file).expect_err("a file");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
