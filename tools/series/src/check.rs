// SPDX-License-Identifier: GPL-2.0

//! What can be said of a series before anybody reads it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use regex::Regex;

use crate::mail::mails;
use crate::plan::{changed_files, Series};
use crate::tree::{run, Tree};

/// The mails apply to what the kernel has, one after the other, and give what was committed.
pub fn applies(tree: &Tree<'_>, series: &Series, dir: &Path) -> Result<()> {
    let applied = format!("applied-{}", series.name);
    tree.git(&["checkout", "--quiet", "-B", &applied, series.base()])?;
    for mail in mails(dir)? {
        let mail = mail.display().to_string();
        tree.git(&["am", "--quiet", &mail])
            .with_context(|| format!("does not apply: {mail}"))?;
    }
    let differs = tree.git(&["diff", "--stat", &series.name, &applied])?;
    ensure!(
        differs.is_empty(),
        "the mails of {} give something else than its commits:\n{differs}",
        series.name
    );
    Ok(())
}

/// A finding of checkpatch.
#[derive(Debug, Eq, PartialEq)]
pub struct Finding {
    /// The line that it printed.
    pub line: String,
    /// Why it stays, if the plan says so.
    pub accepted: Option<String>,
}

/// What checkpatch says of each mail. One that is accepted has to be found.
pub fn style(kernel: &Path, series: &Series, dir: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (mail, patch) in mails(dir)?.iter().zip(&series.plan.patch) {
        let output = Command::new("perl")
            .arg("scripts/checkpatch.pl")
            .args(["--strict", "--terse", "--no-summary", "--show-types"])
            .arg(mail)
            .current_dir(kernel)
            .output()
            .context("cannot run checkpatch.pl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut found = judge(&text, &rules(series, patch)?);
        for accept in &patch.accept {
            let seen = found
                .iter()
                .any(|finding| finding.accepted.as_deref() == Some(accept.reason.as_str()));
            ensure!(
                seen,
                "{}: checkpatch does not say {} any more",
                patch.label(),
                accept.pattern
            );
        }
        findings.append(&mut found);
    }
    Ok(findings)
}

fn rules(series: &Series, patch: &crate::plan::Patch) -> Result<Vec<(Regex, String)>> {
    patch
        .accept
        .iter()
        .map(|accept| Ok((Regex::new(&accept.pattern)?, accept.reason.clone())))
        .collect::<Result<_>>()
        .with_context(|| series.name.clone())
}

fn judge(text: &str, rules: &[(Regex, String)]) -> Vec<Finding> {
    text.lines()
        .filter(|line| {
            ["ERROR:", "WARNING:", "CHECK:"]
                .iter()
                .any(|kind| line.contains(kind))
        })
        .map(|line| Finding {
            line: line.to_owned(),
            accepted: rules
                .iter()
                .find(|(pattern, _)| pattern.is_match(line))
                .map(|(_, reason)| reason.clone()),
        })
        .collect()
}

/// A whole kernel tree that the series are put on, patch by patch.
pub struct WholeTree<'a> {
    dir: &'a Path,
    /// Where objects are built, and what make is told.
    build: Option<(PathBuf, &'a [String])>,
}

impl<'a> WholeTree<'a> {
    /// A copy of `kernel` in `dir`. With `prepared`, an output directory in which the kernel was
    /// prepared for modules, each patch is built in a copy of that.
    pub fn create(
        kernel: &Path,
        dir: &'a Path,
        prepared: Option<&Path>,
        make: &'a [String],
    ) -> Result<Self> {
        copy(kernel, dir)?;
        let build = match prepared {
            Some(prepared) => {
                let objects = dir.with_extension("objects");
                copy(prepared, &objects)?;
                Some((objects, make))
            }
            None => None,
        };
        Ok(Self { dir, build })
    }

    /// Puts the patches of `series` on top, and builds what each of them changes.
    pub fn add(&self, tree: &Tree<'_>, series: &Series) -> Result<()> {
        let commits = tree.git(&[
            "rev-list",
            "--reverse",
            &format!("{}..{}", series.base(), series.name),
        ])?;
        for commit in commits.lines() {
            let parent = format!("{commit}^");
            let diff = tree.git(&["diff", "--binary", &parent, commit])?;
            run(
                Command::new("patch")
                    .args(["-p1", "--silent", "--no-backup-if-mismatch"])
                    .current_dir(self.dir),
                Some(&diff),
            )
            .with_context(|| format!("{}, on top of those before it", series.name))?;
            let Some((objects, make)) = &self.build else {
                continue;
            };
            let changed = changed_files(&diff);
            let targets: BTreeSet<String> = changed.iter().filter_map(|f| target(f)).collect();
            let samples: BTreeSet<&Path> = changed.iter().filter_map(|f| sample(f)).collect();
            let builds = [targets.into_iter().collect()]
                .into_iter()
                .chain(samples.into_iter().map(|dir| self.sample(dir)));
            for arguments in builds.filter(|arguments: &Vec<String>| !arguments.is_empty()) {
                let what = arguments.join(" ");
                eprintln!("series: {}: building {what}", series.name);
                run(
                    Command::new("make")
                        .arg("-C")
                        .arg(self.dir)
                        .arg(format!("O={}", objects.display()))
                        .args(*make)
                        .args(["KCFLAGS=-Werror", "KRUSTFLAGS=-Dwarnings"])
                        .args(arguments)
                        .env_remove("MAKEFLAGS"),
                    None,
                )
                .with_context(|| format!("{}: {what} does not build", series.name))?;
            }
        }
        Ok(())
    }

    /// What make is told to build a sample: as an external module, since the kernel was prepared
    /// without it, and its object only, since what it needs of the kernel is not exported there.
    fn sample(&self, dir: &Path) -> Vec<String> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        vec![
            format!("M={}", self.dir.join(dir).display()),
            format!("{name}.o"),
        ]
    }
}

/// What make is told to build for a file of the kernel's that has changed: its object, or all of
/// `rust/`, which is built when make prepares.
fn target(file: &str) -> Option<String> {
    if file.starts_with("rust/") {
        return Some("prepare".to_owned());
    }
    let source = file.strip_suffix(".c")?;
    let own = !file.starts_with("tools/") && !file.starts_with("samples/");
    own.then(|| format!("{source}.o"))
}

/// The folder of a sample in Rust that a file is part of.
fn sample(file: &str) -> Option<&Path> {
    let dir = Path::new(file).parent()?;
    (file.ends_with(".rs") && dir.parent()? == Path::new("samples/rust")).then_some(dir)
}

/// A copy of a folder, in place of what is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let from = from
        .canonicalize()
        .with_context(|| format!("cannot find {}", from.display()))?;
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    run(
        Command::new("cp")
            .args(["--archive", "--reflink=auto", "--no-target-directory"])
            .arg(&from)
            .arg(to),
        None,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings() {
        let text = "a.patch:3: WARNING:LONG_LINE: line length of 101\n\
            a.patch:9: CHECK:MACRO_ARG_REUSE: reuse\ntotal: 0 errors\n";
        let rules = [(
            Regex::new("MACRO_ARG").expect("as in the test"),
            "constants".to_owned(),
        )];
        let found = judge(text, &rules);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].accepted, None);
        assert_eq!(found[1].accepted.as_deref(), Some("constants"));
    }

    #[test]
    fn targets() {
        assert_eq!(
            target("drivers/pci/p2pdma.c").as_deref(),
            Some("drivers/pci/p2pdma.o")
        );
        assert_eq!(target("rust/helpers/p2pdma.c").as_deref(), Some("prepare"));
        assert_eq!(target("drivers/md/raid1.h"), None);
        assert_eq!(target("samples/rust/some/parameters.rs"), None);
        assert_eq!(
            sample("samples/rust/some/parameters.rs"),
            Some(Path::new("samples/rust/some"))
        );
        assert_eq!(sample("samples/rust/rust_print.rs"), None);
        assert_eq!(sample("samples/rust/some/Makefile"), None);
        assert_eq!(target("tools/testing/selftests/p2pdma/p2pdma_pool.c"), None);
    }
}
