// SPDX-License-Identifier: GPL-2.0

//! The kernel's counters, as the test `p2pdma_gcov` has printed them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use base64::prelude::{Engine, BASE64_STANDARD};

/// A file of counters.
#[derive(Debug, Eq, PartialEq)]
pub struct Counters {
    /// Where the kernel's build has left the object.
    pub path: PathBuf,
    /// What is in the file.
    pub bytes: Vec<u8>,
}

/// Reads what is in the results of a topology.
pub fn read(ktap: &str) -> Result<Vec<Counters>> {
    let mut found: Vec<Counters> = Vec::new();
    for line in ktap.lines() {
        if let Some((_, path)) = line.split_once("# gcov file ") {
            found.push(Counters {
                path: path.trim().into(),
                bytes: Vec::new(),
            });
        } else if let Some((_, data)) = line.split_once("# gcov data ") {
            let Some(file) = found.last_mut() else {
                bail!("there is data before the name of a file");
            };
            let bytes = BASE64_STANDARD.decode(data.trim());
            let bytes = bytes.with_context(|| format!("in {}", file.path.display()))?;
            file.bytes.extend(bytes);
        }
    }
    Ok(found)
}

/// Puts counters into a directory, beside the notes of the compiler that belong to them.
pub fn put(counters: &[Counters], build: &Path, to: &Path) -> Result<()> {
    for file in counters {
        let Ok(within) = file.path.strip_prefix(build) else {
            bail!(
                "{} is not below {}: was another kernel booted?",
                file.path.display(),
                build.display()
            );
        };
        let data = to.join(within);
        let notes = file.path.with_extension("gcno");
        fs::create_dir_all(data.parent().unwrap_or(to))?;
        fs::write(&data, &file.bytes)
            .with_context(|| format!("cannot write {}", data.display()))?;
        fs::copy(&notes, data.with_extension("gcno"))
            .with_context(|| format!("cannot copy {}", notes.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_nested_lines() {
        let ktap = "  # # gcov file /b/a.gcda\n  # # gcov data AQID\n  # # gcov data BA==\n\
                    ok 1\n# gcov file /b/c.gcda\n";
        let found = read(ktap).expect("read");
        assert_eq!(found[0].path, Path::new("/b/a.gcda"));
        assert_eq!(found[0].bytes, [1, 2, 3, 4]);
        assert!(found[1].bytes.is_empty());
        assert!(read("# gcov data AQID\n").is_err());
        assert!(read("# gcov file /a\n# gcov data A\n").is_err());
    }

    #[test]
    fn notes_are_put_beside() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let build = dir.path().join("build");
        fs::create_dir(&build).expect("made");
        fs::write(build.join("a.gcno"), "notes").expect("written");
        let to = dir.path().join("to");
        let one = |path: PathBuf| {
            [Counters {
                path,
                bytes: vec![1],
            }]
        };
        put(&one(build.join("a.gcda")), &build, &to).expect("put");
        assert_eq!(fs::read(to.join("a.gcno")).expect("there"), b"notes");
        assert_eq!(fs::read(to.join("a.gcda")).expect("there"), [1]);
        assert!(put(&one("/other/a.gcda".into()), &build, &to).is_err());
    }
}
