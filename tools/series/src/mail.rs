// SPDX-License-Identifier: GPL-2.0

//! Series as mails: who gets them, and the cover letter.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::plan::{fill, Series};
use crate::tree::{run, Tree};

/// What was written for a series.
#[derive(Debug, Serialize)]
pub struct Written {
    /// Its name.
    pub series: String,
    /// Its title.
    pub title: String,
    /// The folder with the mails.
    pub dir: PathBuf,
    /// Number of patches.
    pub patches: usize,
    /// Files that are changed.
    pub files: usize,
    /// Lines that are added.
    pub added: usize,
    /// Lines that are removed.
    pub removed: usize,
    /// Who gets it.
    pub to: Vec<String>,
}

/// The people and lists for the files that `series` changes, or is like, from the kernel's
/// MAINTAINERS.
fn recipients(kernel: &Path, series: &Series, dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let like: Vec<_> = series.plan.like.iter().map(|f| kernel.join(f)).collect();
    // Once for all mails: it reads MAINTAINERS anew each time.
    for (option, files) in [(None, mails(dir)?), (Some("-f"), like)] {
        if files.is_empty() {
            continue;
        }
        let mut command = Command::new("perl");
        command
            .arg("scripts/get_maintainer.pl")
            .args([
                "--no-git",
                "--no-git-fallback",
                "--norolestats",
                "--no-keywords",
            ])
            .args(option)
            .args(files)
            .current_dir(kernel);
        let text = run(&mut command, None).context("who are the maintainers?")?;
        for line in text.lines().filter(|line| line.contains('@')) {
            if !found.iter().any(|other| other == line) {
                found.push(line.to_owned());
            }
        }
    }
    // Lists, which have no name, come last, as it is usual.
    let (people, lists): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.contains('<'));
    Ok(people.into_iter().chain(lists).collect())
}

/// What it applies to, in words.
fn basis(kernel: &Path, series: &Series, all: &[Series]) -> Result<String> {
    let below: Vec<String> = all
        .iter()
        .filter(|other| series.plan.after.contains(&other.name))
        .map(|other| format!("\"{}\"", other.plan.title))
        .collect();
    if !below.is_empty() {
        return Ok(format!("It goes on top of {}.", below.join(" and ")));
    }
    let makefile = kernel.join("Makefile");
    let text = fs::read_to_string(&makefile)
        .with_context(|| format!("cannot read {}", makefile.display()))?;
    Ok(format!("It applies to Linux {}.", version(&text)?))
}

/// The version that the kernel's Makefile begins with.
fn version(makefile: &str) -> Result<String> {
    let number = |name: &str| {
        makefile
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='))
            .map(str::trim)
            .with_context(|| format!("the kernel's Makefile has no {name}"))
    };
    let numbers = [
        number("VERSION")?,
        number("PATCHLEVEL")?,
        number("SUBLEVEL")?,
    ];
    Ok(numbers.join("."))
}

/// The mails with patches in a folder, without the cover letter, in their order.
pub fn mails(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|file| {
        file.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.ends_with(".patch") && !name.contains("0000-")
        })
    });
    files.sort();
    Ok(files)
}

/// Writes the mails of `series`, which is committed in `tree`, into `dir`.
/// `all` are the series that it may go on top of.
pub fn write(
    tree: &Tree<'_>,
    kernel: &Path,
    series: &Series,
    all: &[Series],
    dir: &Path,
) -> Result<Written> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let out = dir.display().to_string();
    let range = format!("{}..{}", series.base(), series.name);
    let prefix = if series.plan.rfc {
        "RFC PATCH"
    } else {
        "PATCH"
    };
    let format = |more: &[&str]| -> Result<String> {
        let mut args = vec![
            "format-patch",
            "--quiet",
            "--notes",
            "--no-signature",
            "--subject-prefix",
            prefix,
            "--output-directory",
            &out,
        ];
        args.extend(more);
        args.push(&range);
        tree.git(&args)
    };

    // The addresses depend on what the patches change.
    format(&[])?;
    let to = recipients(kernel, series, dir)?;
    for mail in mails(dir)? {
        fs::remove_file(mail)?;
    }
    let cc: Vec<String> = to.iter().map(|address| format!("--to={address}")).collect();
    let mut more: Vec<&str> = cc.iter().map(String::as_str).collect();
    more.extend(["--cover-letter", "--thread=shallow"]);
    format(&more)?;

    let cover = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| file.to_string_lossy().ends_with("0000-cover-letter.patch"))
        .context("git wrote no cover letter")?;
    let text = fs::read_to_string(&cover)?
        .replace("*** SUBJECT HERE ***", &series.plan.title)
        .replace(
            "*** BLURB HERE ***",
            &fill(&format!(
                "{}\n\n{}",
                series.plan.cover.trim(),
                basis(kernel, series, all)?
            )),
        );
    fs::write(&cover, text)?;

    let stat = tree.git(&["diff", "--numstat", &range])?;
    let numbers = |column: usize| -> usize {
        stat.lines()
            .filter_map(|line| line.split('\t').nth(column)?.parse::<usize>().ok())
            .sum()
    };
    Ok(Written {
        series: series.name.clone(),
        title: series.plan.title.clone(),
        dir: dir.to_owned(),
        patches: series.plan.patch.len(),
        files: stat.lines().count(),
        added: numbers(0),
        removed: numbers(1),
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let makefile = "# SPDX\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\nEXTRAVERSION =\n";
        assert_eq!(version(makefile).expect("as in the test"), "7.3.4");
        assert!(version("VERSION = 7\n").is_err());
    }
}
