// SPDX-License-Identifier: GPL-2.0

//! A git repository with those files of the kernel's tree that the series change.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context, Result};

use crate::plan::{changed_files, fill, message, Patch, Series, BASE};
use crate::rust;

/// Where things are taken from.
pub struct Sources<'a> {
    /// The kernel's source.
    pub kernel: &'a Path,
    /// This project.
    pub project: &'a Path,
    /// Who sends it, `Name <address>`.
    pub sender: &'a Sender,
}

/// Who sends the series.
#[derive(Clone)]
pub struct Sender {
    name: String,
    mail: String,
}

impl std::str::FromStr for Sender {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, mail) = text
            .trim()
            .strip_suffix('>')
            .and_then(|text| text.split_once(" <"))
            .context("not of the form `Name <address>`")?;
        ensure!(
            !name.is_empty() && mail.contains('@') && !mail.contains(['<', '>', ' ']),
            "not of the form `Name <address>`"
        );
        Ok(Self {
            name: name.to_owned(),
            mail: mail.to_owned(),
        })
    }
}

/// The repository.
pub struct Tree<'a> {
    dir: PathBuf,
    sources: &'a Sources<'a>,
}

/// Where diffs are: fixes of defects, and what the library would otherwise work around.
const FIXES: &str = "Documentation/p2pdma/patches";
const DIFFS: [&str; 2] = [FIXES, "tools/series/enablers"];

impl Patch {
    /// Whether it fixes a defect, and is a diff in the folder of those.
    pub fn is_fix(&self, project: &Path) -> bool {
        let file = |name: &String| project.join(FIXES).join(format!("{name}.patch"));
        self.diff.as_ref().is_some_and(|name| file(name).exists())
    }

    /// The text of the diff, if it is one.
    pub fn diff_text(&self, project: &Path) -> Result<Option<String>> {
        let Some(name) = &self.diff else {
            return Ok(None);
        };
        let file = DIFFS
            .iter()
            .map(|dir| project.join(dir).join(format!("{name}.patch")))
            .find(|file| file.exists())
            .with_context(|| format!("there is no {name}.patch in {}", DIFFS.join(", ")))?;
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Some(text))
    }

    /// Files of the kernel's tree that it changes.
    pub fn files(&self, project: &Path) -> Result<BTreeSet<String>> {
        let mut files = match self.diff_text(project)? {
            Some(diff) => changed_files(&diff),
            None => BTreeSet::new(),
        };
        files.extend(self.insert.iter().map(|insert| insert.file.clone()));
        files.extend(self.remove.iter().cloned());
        for copy in &self.copy {
            let copied = copy.files(project)?;
            files.extend(copied.into_iter().map(|(_, target)| target));
        }
        Ok(files)
    }
}

impl<'a> Tree<'a> {
    /// A new repository in `dir`, with the files that `series` change as the kernel has them.
    pub fn create(dir: &Path, sources: &'a Sources<'a>, series: &[Series]) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let tree = Self {
            dir: dir.to_owned(),
            sources,
        };
        tree.git(&["init", "--quiet", "--initial-branch", BASE])?;
        let mut files = BTreeSet::new();
        for patch in series.iter().flat_map(|series| &series.plan.patch) {
            files.extend(patch.files(sources.project)?);
        }
        for file in &files {
            let from = sources.kernel.join(file);
            if from.exists() {
                tree.write(file, &fs::read(&from).with_context(|| cannot_read(&from))?)?;
            }
        }
        tree.git(&["add", "--all"])?;
        tree.git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "-m",
            "the kernel as it is",
        ])?;
        Ok(tree)
    }

    fn write(&self, file: &str, text: &[u8]) -> Result<()> {
        let to = self.dir.join(file);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(&to, text).with_context(|| format!("cannot write {}", to.display()))
    }

    /// A branch with the patches of a series, a commit each.
    pub fn commit_series(&self, series: &Series) -> Result<()> {
        let base = series.base();
        if let [first, others @ ..] = series.plan.after.as_slice() {
            if !others.is_empty() {
                self.git(&["checkout", "--quiet", "-B", &base, first])?;
            }
            for other in others {
                self.git(&["merge", "--quiet", "--no-edit", other])
                    .with_context(|| format!("{}: {first} and {other}", series.name))?;
            }
        }
        self.git(&["checkout", "--quiet", "-B", &series.name, &base])?;
        for patch in &series.plan.patch {
            self.commit(patch)
                .with_context(|| format!("{}: {}", series.name, patch.label()))?;
        }
        Ok(())
    }

    /// What each patch of a series changes, in their order.
    pub fn diffs(&self, series: &Series) -> Result<Vec<String>> {
        let range = format!("{}..{}", series.base(), series.name);
        let commits = self.git(&["rev-list", "--reverse", "--first-parent", &range])?;
        commits
            .lines()
            .map(|commit| self.git(&["diff", "--binary", &format!("{commit}^"), commit]))
            .collect()
    }

    fn commit(&self, patch: &Patch) -> Result<()> {
        let (subject, body) = match patch.diff_text(self.sources.project)? {
            Some(diff) => {
                let mut command = Command::new("patch");
                command.args(["-p1", "--fuzz=0", "--silent", "--no-backup-if-mismatch"]);
                self.run(&mut command, Some(&diff))?;
                message(&diff)?
            }
            None => (
                patch.subject.clone().unwrap_or_default(),
                patch.body.clone().unwrap_or_default(),
            ),
        };
        for copy in &patch.copy {
            for (file, target) in copy.files(self.sources.project)? {
                let mut text = copy.read(&file)?;
                if target.ends_with(".rs") {
                    text = self.formatted(&text).with_context(|| target.clone())?;
                }
                self.write(&target, text.as_bytes())?;
            }
        }
        for insert in &patch.insert {
            let file = self.dir.join(&insert.file);
            if let Some(text) = insert.new_file() {
                ensure!(!file.exists(), "{} is there already", insert.file);
                self.write(&insert.file, text.as_bytes())?;
                continue;
            }
            let text = fs::read_to_string(&file).with_context(|| cannot_read(&file))?;
            self.write(&insert.file, insert.apply(&text)?.as_bytes())?;
        }
        for file in &patch.remove {
            fs::remove_file(self.dir.join(file))
                .with_context(|| format!("cannot remove {file}"))?;
        }
        self.git(&["add", "--all"])?;
        let text = format!("{subject}\n\n{}\n", fill(&body));
        self.git_with(&["commit", "--quiet", "--signoff", "--file", "-"], &text)?;
        if let Some(note) = &patch.note {
            self.git_with(&["notes", "add", "--file", "-"], note.trim())?;
        }
        Ok(())
    }

    /// Rust as the kernel's own settings format it. Comments are left to us.
    fn formatted(&self, text: &str) -> Result<String> {
        let settings = self.sources.kernel.join(".rustfmt.toml");
        let mut command = Command::new("rustfmt");
        command.arg("--config-path").arg(settings);
        let text = rust::narrowed(&self.run(&mut command, Some(text))?)?;
        Ok(text)
    }

    /// Runs git in the repository, with nobody's settings but the sender's name.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        self.git_with(args, "")
    }

    fn git_with(&self, args: &[&str], input: &str) -> Result<String> {
        let sender = self.sources.sender;
        let mut command = Command::new("git");
        command
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{who}_NAME"), &sender.name)
                .env(format!("GIT_{who}_EMAIL"), &sender.mail);
        }
        self.run(&mut command, Some(input))
    }

    fn run(&self, command: &mut Command, input: Option<&str>) -> Result<String> {
        run(command.current_dir(&self.dir), input)
    }
}

fn cannot_read(file: &Path) -> String {
    format!("cannot read {}", file.display())
}

/// Runs a program, and returns what it printed; its complaints are those of the error.
pub fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that ends without reading says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed: {}{}", text.trim(), why.trim());
    }
    Ok(text)
}
