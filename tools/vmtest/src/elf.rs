// SPDX-License-Identifier: GPL-2.0

//! What a program needs beside itself: its dynamic loader and its shared libraries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use object::elf::{FileHeader64, DT_NEEDED, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::Endianness;

const LIBRARY_DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// What an executable file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The program that starts it: the dynamic loader, or the interpreter of a script.
    pub interpreter: Option<String>,
    /// Names of shared libraries.
    pub libraries: Vec<String>,
}

/// Reads what an executable, a library or a script asks for.
pub fn needs(bytes: &[u8]) -> Result<Needs> {
    if let Some(line) = bytes.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return Ok(Needs {
            interpreter: line.split_whitespace().next().map(str::to_owned),
            libraries: Vec::new(),
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
            if entry.tag32(endian) == Some(DT_NEEDED) {
                let name = entry.string(endian, strings)?;
                needs
                    .libraries
                    .push(String::from_utf8_lossy(name).into_owned());
            }
        }
    }
    Ok(needs)
}

/// Reads `program` and everything it needs: contents by the path where it has to be.
pub fn closure(program: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut queue = vec![program.to_owned()];
    while let Some(path) = queue.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let needs = needs(&bytes).with_context(|| path.display().to_string())?;
        queue.extend(needs.interpreter.map(PathBuf::from));
        for library in needs.libraries {
            queue.push(find_library(&library).with_context(|| path.display().to_string())?);
        }
        files.insert(path, bytes);
    }
    Ok(files)
}

fn find_library(name: &str) -> Result<PathBuf> {
    for directory in LIBRARY_DIRECTORIES {
        let path = Path::new(directory).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("shared library {name} is not there; link the program statically or install the library")
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
        let files = closure(&me).expect("closure");
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
}
