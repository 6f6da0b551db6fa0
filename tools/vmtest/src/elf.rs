// SPDX-License-Identifier: GPL-2.0

//! What a program needs beside itself: its dynamic loader and its shared libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, Context, Result};
use object::elf::{FileHeader64, DT_NEEDED, DT_RPATH, DT_RUNPATH, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::Endianness;
use p2pdma_common::Arch;

/// Below a root; those of the architecture come first.
const LIBRARY_DIRECTORIES: [&str; 4] = ["lib64", "usr/lib64", "lib", "usr/lib"];

/// What an executable file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The program that starts it: the dynamic loader, or the interpreter of a script.
    pub interpreter: Option<String>,
    /// Names of shared libraries.
    pub libraries: Vec<String>,
    /// Directories to look for them in first.
    pub directories: Vec<String>,
}

/// Reads what an executable, a library or a script asks for.
pub fn needs(bytes: &[u8]) -> Result<Needs> {
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return Ok(Needs {
            interpreter: line.split_whitespace().next().map(str::to_owned),
            ..Needs::default()
        });
    }
    let header = FileHeader64::<Endianness>::parse(bytes).context("not an executable file")?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, bytes)?;
    let mut needs = Needs::default();
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP {
            let name = segment
                .data(endian, bytes)
                .map_err(|()| anyhow!("broken ELF file: PT_INTERP"))?;
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            needs.interpreter = Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    let sections = header.sections(endian, bytes)?;
    if let Some((entries, link)) = sections.dynamic(endian, bytes)? {
        let strings = sections.strings(endian, bytes, link)?;
        for entry in entries {
            let text = || {
                let text = entry.string(endian, strings)?;
                Ok::<_, anyhow::Error>(String::from_utf8_lossy(text).into_owned())
            };
            match entry.tag32(endian) {
                Some(DT_NEEDED) => needs.libraries.push(text()?),
                Some(DT_RPATH | DT_RUNPATH) => {
                    let directories = text()?;
                    let directories = directories.split(':').map(str::to_owned);
                    needs.directories.extend(directories);
                }
                _ => {}
            }
        }
    }
    Ok(needs)
}

/// Where the guest's files are on this machine.
#[derive(Debug, Clone)]
pub struct Root {
    directory: PathBuf,
    triple: &'static str,
}

impl Root {
    /// That for guests of `arch`: this machine's own, if it can be.
    pub fn of(arch: Arch) -> Self {
        let names = arch.names();
        Self {
            directory: if arch.is_host() {
                "/"
            } else {
                names.guest_root
            }
            .into(),
            triple: names.triple,
        }
    }

    /// Where a file of the guest is.
    pub fn locate(&self, path: &Path) -> PathBuf {
        self.directory.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where a file is in the guest.
    fn in_guest(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.directory) {
            Ok(inside) => Path::new("/").join(inside),
            Err(_) => path.to_owned(),
        }
    }

    fn find_library(&self, name: &str, first: &[String]) -> Result<PathBuf> {
        let named = first
            .iter()
            .filter_map(|path| path.strip_prefix('/').map(PathBuf::from));
        let own = ["lib", "usr/lib"].map(|lib| Path::new(lib).join(self.triple));
        let others = LIBRARY_DIRECTORIES.map(PathBuf::from);
        named
            .chain(own)
            .chain(others)
            .map(|directory| self.directory.join(directory).join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                anyhow!(
                    "shared library {name} is not there; link the program statically or install \
                     the library"
                )
            })
    }
}

/// Reads `program` and everything it needs: contents by the path where it has to be. What is not
/// in `root`, as the project's own programs, keeps its path.
pub fn closure(program: &Path, root: &Root) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut queue = vec![program.to_owned()];
    while let Some(path) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let needs = needs(&bytes).with_context(|| path.display().to_string())?;
        let interpreter = needs.interpreter.map(PathBuf::from);
        queue.extend(interpreter.map(|path| root.locate(&path)));
        for library in needs.libraries {
            queue.push(
                root.find_library(&library, &needs.directories)
                    .with_context(|| path.display().to_string())?,
            );
        }
        files.insert(root.in_guest(&path), bytes);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_need_their_interpreter() {
        let script = needs(b"#! /bin/sh -e\necho\n").expect("a script");
        assert_eq!(script.interpreter.as_deref(), Some("/bin/sh"));
        assert!(needs(b"").is_err());
        assert!(needs(b"plain text").is_err());
    }

    #[test]
    fn this_program_brings_its_libraries() {
        let me = std::env::current_exe().expect("current_exe");
        let files = closure(&me, &Root::of(Arch::HOST)).expect("closure");
        assert!(files.contains_key(&me));
        let own = needs(&files[&me]).expect("an ELF file");
        // Statically linked it needs nothing; otherwise everything it names is there.
        for library in own.libraries {
            assert!(files.keys().any(|path| path.ends_with(&library)));
        }
        if let Some(loader) = own.interpreter {
            assert!(files.contains_key(Path::new(&loader)));
        }
    }

    #[test]
    fn files_of_another_architecture_have_a_root_of_their_own() {
        let tree = tempfile::tempdir().expect("tempdir");
        let put = |path: &str, bytes: &[u8]| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().expect("below the tree")).expect("mkdir");
            fs::write(path, bytes).expect("write");
        };
        put("bin/sh", b"#!/bin/sh\n");
        put("usr/sbin/tool", b"#!/bin/sh\n");
        put("usr/lib/aarch64-linux-gnu/libx.so", b"");
        let root = Root {
            directory: tree.path().into(),
            triple: Arch::Arm64.names().triple,
        };
        let tool = root.locate(Path::new("/usr/sbin/tool"));
        let files = closure(&tool, &root).expect("all there");
        let paths: Vec<_> = files.keys().filter_map(|path| path.to_str()).collect();
        assert_eq!(paths, ["/bin/sh", "/usr/sbin/tool"]);
        assert!(root.find_library("libx.so", &[]).is_ok());
        let error = root.find_library("liby.so", &[]).expect_err("not there");
        assert!(error.to_string().contains("liby.so"), "{error}");
        put("usr/lib/own/liby.so", b"");
        let own = root.find_library("liby.so", &["/usr/lib/own".to_owned()]);
        assert_eq!(own.expect("it"), tree.path().join("usr/lib/own/liby.so"));
    }
}
