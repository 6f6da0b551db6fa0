// SPDX-License-Identifier: GPL-2.0

//! The cache: where all that is downloaded and built is kept, outside the checkout.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use rustix::fs::{flock, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// The cache directory.
pub struct Cache {
    dir: PathBuf,
}

/// Excludes other runs from a part of the cache while it lives.
pub struct Guard {
    _file: OwnedFd,
}

impl Cache {
    /// Opens the cache in `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        if dir.as_os_str().is_empty() {
            bail!("P2PDMA_CACHE is not set: run this in the testbed, tools/testbed/enter");
        }
        for part in ["kernel", "log"] {
            let part = dir.join(part);
            fs::create_dir_all(&part)
                .with_context(|| format!("cannot create {}", part.display()))?;
        }
        let dir = dir.to_owned();
        Ok(Self { dir })
    }

    /// Where kernels are kept.
    pub fn kernels(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    /// Where ccache keeps what was compiled.
    pub fn ccache(&self) -> PathBuf {
        self.dir.join("ccache")
    }

    /// The log file of `name`.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("log").join(format!("{name}.log"))
    }

    /// Waits until no other run works on `name`.
    ///
    /// The lock is passed on to child processes: when this process is killed, those that it leaves
    /// behind hold it until they have ended.
    pub fn lock(&self, name: &str) -> Result<Guard> {
        let path = self.kernels().join(format!("{name}.lock"));
        let file = rustix::fs::open(&path, OFlags::RDWR | OFlags::CREATE, Mode::from(0o644))
            .with_context(|| format!("cannot create {}", path.display()))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                eprintln!("testbed: another run is preparing {name}, waiting for it");
                flock(&file, FlockOperation::LockExclusive)
            }
            result => result,
        }
        .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Guard { _file: file })
    }

    /// Refuses to go on with less than `bytes` free.
    pub fn require_free(&self, bytes: u64, what: &str) -> Result<()> {
        const MIB: u64 = 1 << 20;
        let stat = rustix::fs::statvfs(&self.dir)
            .with_context(|| format!("cannot tell the free space of {}", self.dir.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < bytes {
            bail!(
                "{what} needs {} MiB, {} has {} MiB free; free space there or set P2PDMA_CACHE",
                bytes / MIB,
                self.dir.display(),
                free / MIB
            );
        }
        Ok(())
    }
}

/// Writes a file so that it is there wholly or not at all.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let write = || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}", std::process::id()));
        fs::write(&partial, content)?;
        fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Deletes a directory and all in it; it may be missing.
pub fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.with_context(|| format!("cannot remove {}", dir.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_file_replaces_the_old_one_and_leaves_no_other() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("new/file");
        write_whole(&path, b"one").expect("written");
        write_whole(&path, b"two").expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(
            fs::read_dir(dir.path().join("new")).expect("read").count(),
            1
        );
    }

    #[test]
    fn too_little_space_is_told_with_the_figures() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(dir.path()).expect("opened");
        let error = cache
            .require_free(u64::MAX, "a kernel")
            .expect_err("too much")
            .to_string();
        assert!(
            error.contains("a kernel needs") && error.contains("P2PDMA_CACHE"),
            "{error}"
        );
        cache.require_free(1, "a kernel").expect("one byte");
    }

    #[test]
    fn removing_what_is_not_there_is_fine() {
        let dir = tempfile::tempdir().expect("temporary directory");
        remove_dir(&dir.path().join("none")).expect("nothing to do");
    }
}
