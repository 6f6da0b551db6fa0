// SPDX-License-Identifier: GPL-2.0

//! Tries the project on a kernel: are modules built for it, and do their tests pass? And what
//! broke.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Most lines that are told of one step.
const MOST: usize = 40;

/// What is made, in this order: its name, and the goals and variables for `make`.
const STEPS: [(&str, &[&str]); 2] = [
    ("modules", &["modules"]),
    ("check", &["check", "TOPOLOGY=switch"]),
];

/// Makes all steps for the kernel `flavour`, with `env` set and what they print in `logs`. What it
/// says is for people; `Err` is what broke.
pub fn run(
    checkout: &Path,
    flavour: &str,
    env: &[(&str, &Path)],
    logs: &Path,
) -> Result<Result<String, String>> {
    fs::create_dir_all(logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let mut told = String::new();
    for (name, arguments) in STEPS {
        let path = logs.join(format!("{name}.log"));
        let log = File::create(&path).with_context(|| path.display().to_string())?;
        eprintln!("testbed: trying {name}, see {}", path.display());
        let mut make = Command::new("make");
        make.current_dir(checkout)
            .args(arguments)
            .arg(format!("FLAVOUR={flavour}"))
            .args(["KDIR=", "KERNEL=", "LLVM="])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // This is no part of the make that may have started us.
        for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
            make.env_remove(variable);
        }
        let good = make.status().context("cannot run make")?.success();
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&text);
        if !good {
            let broken = broken(&text);
            let rest = broken.len().saturating_sub(MOST);
            let mut lines: Vec<String> = broken.into_iter().take(MOST).collect();
            if rest > 0 {
                lines.push(format!("and {rest} more"));
            }
            return Ok(Err(format!(
                "{name} fails, all of it in {}:\n  {}",
                path.display(),
                lines.join("\n  ")
            )));
        }
        told += &format!(", {name}: {}", summary(&text).unwrap_or("done"));
    }
    Ok(Ok(told))
}

/// The line with the numbers of tests.
fn summary(text: &str) -> Option<&str> {
    text.lines()
        .rev()
        .find(|line| line.contains(" passed, ") && line.contains(" failed"))
}

/// What went wrong, by file: of rustc, of a C compiler, of modpost, of the tests. The end of the
/// text, if it is nothing of that.
fn broken(text: &str) -> Vec<String> {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut others = Vec::new();
    let mut message = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if let Some(rest) = line.strip_prefix("error") {
            // error[E0432]: unresolved import; the place is in one of the next lines.
            message = rest.split_once(": ").map(|(_, message)| message);
        } else if let (Some(place), Some(what)) = (trimmed.strip_prefix("--> "), message) {
            let mut parts = place.split(':');
            let (file, at) = (parts.next().unwrap_or(place), parts.next().unwrap_or("?"));
            files
                .entry(file)
                .or_default()
                .push(format!("line {at}: {what}"));
            message = None;
        } else if let Some((place, what)) = line.split_once(": error: ") {
            let mut parts = place.split(':');
            let (file, at) = (parts.next().unwrap_or(place), parts.next().unwrap_or("?"));
            files
                .entry(file)
                .or_default()
                .push(format!("line {at}: {what}"));
        } else if line.starts_with("ERROR: modpost: ")
            || line.starts_with("testbed: ")
            || line.starts_with("# FAILED: ")
            || line.starts_with("vmtest: ")
            || line.contains(": *** ") && line.contains("  Stop.")
        {
            others.push(line.to_owned());
        }
    }
    let mut told = Vec::new();
    for (file, errors) in files {
        let s = if errors.len() == 1 { "" } else { "s" };
        told.push(format!("{file}: {} error{s}", errors.len()));
        told.extend(errors.into_iter().map(|error| format!("  {error}")));
    }
    told.extend(others);
    if told.is_empty() {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.len().saturating_sub(10);
        told.extend(lines[end..].iter().map(|&line| line.to_owned()));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_file() {
        let text = "  RUSTC [M] rust/p2pdma/p2pdma.o\n\
            error[E0432]: unresolved import `kernel::io::Region`\n  \
            --> /x/rust/p2pdma/pool.rs:42:9\n   |\n\
            error[E0425]: cannot find value `EREMOTEIO` in this scope\n   \
            --> /x/rust/p2pdma/block.rs:273:31\n\
            error: aborting due to 2 previous errors\n\
            rust/helpers/helpers.c:12:3: error: implicit declaration\n\
            ERROR: modpost: \"f\" [p2pdma.ko] undefined!\n";
        assert_eq!(
            broken(text),
            [
                "/x/rust/p2pdma/block.rs: 1 error",
                "  line 273: cannot find value `EREMOTEIO` in this scope",
                "/x/rust/p2pdma/pool.rs: 1 error",
                "  line 42: unresolved import `kernel::io::Region`",
                "rust/helpers/helpers.c: 1 error",
                "  line 12: implicit declaration",
                "ERROR: modpost: \"f\" [p2pdma.ko] undefined!",
            ]
        );
    }

    #[test]
    fn tests_that_fail_are_told() {
        let text =
            "ok 1 x\n# FAILED: switch: p2pdma_map: pair: no\n3 passed, 1 failed, 0 skipped\n";
        assert_eq!(broken(text), ["# FAILED: switch: p2pdma_map: pair: no"]);
        assert_eq!(summary(text), Some("3 passed, 1 failed, 0 skipped"));
    }

    #[test]
    fn something_else_is_told_by_its_end() {
        assert_eq!(broken("a\nb\n"), ["a", "b"]);
    }
}
