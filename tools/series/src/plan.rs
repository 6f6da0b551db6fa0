// SPDX-License-Identifier: GPL-2.0

//! What a series consists of: one data file each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure, Context, Result};
use regex::{Regex, RegexSet};
use serde::Deserialize;
use textwrap::WordSplitter;

use crate::rust;

/// The branch that has what the kernel has.
pub const BASE: &str = "base";

/// A series of patches for one maintainer.
#[derive(Debug)]
pub struct Series {
    /// Name of the data file, which begins with a number: series can be taken in that order.
    pub name: String,
    /// What the file says.
    pub plan: Plan,
}

/// A data file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Subject of the cover letter.
    pub title: String,
    /// Text of the cover letter.
    pub cover: String,
    /// The series that it goes on top of; without one, it applies to what the kernel has.
    #[serde(default)]
    pub after: Vec<String>,
    /// Files of the kernel's whose maintainers get it as well.
    #[serde(default)]
    pub like: Vec<String>,
    /// Whether it is sent for comments only.
    #[serde(default)]
    pub rfc: bool,
    /// The patches, in order.
    pub patch: Vec<Patch>,
}

/// A patch: a diff that stands in the tree, or files of the tree that are put into the kernel's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Name of a file in the folder of diffs, without `.patch`; its head is the message.
    pub diff: Option<String>,
    /// Subject, if there is no diff.
    pub subject: Option<String>,
    /// Message, if there is no diff.
    pub body: Option<String>,
    /// What is not part of the message, and follows the `---` line: how it was seen, and what a
    /// `Fixes:` tag would have to name.
    pub note: Option<String>,
    /// Files that are copied.
    #[serde(default)]
    pub copy: Vec<Copy>,
    /// Changes of files that are there.
    #[serde(default)]
    pub insert: Vec<Insert>,
    /// Files that go.
    #[serde(default)]
    pub remove: Vec<String>,
    /// What checkpatch says of it and why that stays: a pattern and a reason each.
    #[serde(default)]
    pub accept: Vec<Accept>,
}

/// Files that are copied, and what is different there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// Files, relative to this project. A name may hold `*`.
    pub from: Vec<String>,
    /// Folder in the kernel's tree.
    pub to: String,
    /// What the file is called there, if that differs.
    pub name: Option<String>,
    /// Rules of `rules.toml` that it has in common with other files, which come first. A pattern
    /// of theirs need not match in each file.
    #[serde(default)]
    pub rules: Vec<String>,
    #[serde(skip)]
    common: Vec<(String, String)>,
    /// Lines that match are left out,
    #[serde(default)]
    pub drop: Vec<String>,
    /// but for those that match one of these as well.
    #[serde(default)]
    pub keep: Vec<String>,
    /// What is written otherwise: a pattern and what stands there instead.
    #[serde(default)]
    pub replace: Vec<(String, String)>,
}

/// What differs in many files: patterns, and what stands there instead, by name.
type Rules = BTreeMap<String, Vec<(String, String)>>;

/// Lines that are put into a file of the kernel's, or make a new one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insert {
    /// The file.
    pub file: String,
    /// They stand before the first line that matches,
    pub before: Option<String>,
    /// or after it. Without both, the file is a new one.
    pub after: Option<String>,
    /// The lines.
    pub text: String,
}

/// A finding of checkpatch that stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Pattern of the finding.
    pub pattern: String,
    /// Why it stays.
    pub reason: String,
}

impl Series {
    /// All series that are described in `series` of the folder `data`, in their order.
    pub fn all(data: &Path) -> Result<Vec<Self>> {
        let file = data.join("rules.toml");
        let text =
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let rules: Rules =
            toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        let dir = &data.join("series");
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .with_context(|| format!("cannot read {}", dir.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|ext| ext == "toml"));
        files.sort();
        ensure!(!files.is_empty(), "{} describes no series", dir.display());
        let all = files
            .iter()
            .map(|file| Self::read(file, &rules))
            .collect::<Result<Vec<_>>>()?;
        for (i, one) in all.iter().enumerate() {
            for after in &one.plan.after {
                ensure!(
                    all[..i].iter().any(|other| other.name == *after),
                    "{} goes after {after}, which is no series before it",
                    one.name
                );
            }
        }
        Ok(all)
    }

    /// The branch that it begins at.
    pub fn base(&self) -> String {
        match self.plan.after.as_slice() {
            [] => BASE.to_owned(),
            [one] => one.clone(),
            _ => format!("{BASE}-of-{}", self.name),
        }
    }

    fn read(file: &Path, rules: &Rules) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut plan: Plan =
            toml::from_str(&text).with_context(|| format!("in {}", file.display()))?;
        let name = file
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        for patch in &mut plan.patch {
            let label = format!("in {}: {}", file.display(), patch.label());
            patch.check().context(label.clone())?;
            for copy in &mut patch.copy {
                copy.look_up(rules).context(label.clone())?;
            }
        }
        Ok(Self { name, plan })
    }
}

impl Patch {
    /// What to call it in messages.
    pub fn label(&self) -> &str {
        self.diff
            .as_deref()
            .or(self.subject.as_deref())
            .unwrap_or("a patch without a name")
    }

    fn check(&self) -> Result<()> {
        let written = self.subject.is_some() && self.body.is_some();
        let files = !self.copy.is_empty() || !self.insert.is_empty() || !self.remove.is_empty();
        match self.diff {
            Some(_) => ensure!(
                self.subject.is_none() && self.body.is_none() && !files,
                "a diff has its own message and files"
            ),
            None => ensure!(written && files, "needs a diff, or subject, body and files"),
        }
        for accept in &self.accept {
            Regex::new(&accept.pattern)?;
            ensure!(
                !accept.reason.is_empty(),
                "why is {} accepted?",
                accept.pattern
            );
        }
        Ok(())
    }
}

/// An error if a diff is in no series, or in several: none is forgotten.
pub fn all_diffs_are_in(series: &[Series], project: &Path) -> Result<()> {
    let file = project.join("Documentation/p2pdma/patches/series");
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for diff in text.lines().filter_map(|line| line.strip_suffix(".patch")) {
        let patches = series.iter().flat_map(|series| &series.plan.patch);
        match patches
            .filter(|patch| patch.diff.as_deref() == Some(diff))
            .count()
        {
            0 => bail!("{diff}.patch is in no series: add it to one in tools/series/series"),
            1 => (),
            _ => bail!("{diff}.patch is in several series"),
        }
    }
    Ok(())
}

/// The message at the head of a diff: subject and body.
pub fn message(diff: &str) -> Result<(String, String)> {
    let Some((head, _)) = diff.split_once("\n---\n") else {
        bail!("has no line `---` after its message");
    };
    let (subject, body) = head.split_once("\n\n").context("has no message")?;
    let subject = subject
        .strip_prefix("Subject: [PATCH] ")
        .context("does not begin with `Subject: [PATCH] `")?;
    Ok((subject.to_owned(), body.trim().to_owned()))
}

/// Columns that lines of a message have at most.
const COLUMNS: usize = 72;

/// A message with paragraphs of at most [`COLUMNS`] columns. What has an indented line, such as a
/// trace, stays as it is.
pub fn fill(text: &str) -> String {
    text.trim()
        .split("\n\n")
        .map(|paragraph| {
            if paragraph.lines().any(|line| line.starts_with([' ', '\t'])) {
                paragraph.to_owned()
            } else {
                let options =
                    textwrap::Options::new(COLUMNS).word_splitter(WordSplitter::NoHyphenation);
                textwrap::fill(&paragraph.replace('\n', " "), options)
            }
        })
        .collect::<Vec<_>>()
        .join("\n\n")
}

/// The files that a diff changes.
pub fn changed_files(diff: &str) -> BTreeSet<String> {
    diff.lines()
        .filter_map(|line| line.strip_prefix("+++ b/"))
        .map(|path| path.trim_end().to_owned())
        .collect()
}

impl Copy {
    fn look_up(&mut self, rules: &Rules) -> Result<()> {
        for name in &self.rules {
            let found = rules
                .get(name)
                .with_context(|| format!("rules.toml has no {name}"))?;
            self.common.extend(found.iter().cloned());
        }
        Ok(())
    }

    /// The files, each with the name of the one that it becomes.
    pub fn files(&self, project: &Path) -> Result<Vec<(PathBuf, String)>> {
        let mut files = Vec::new();
        for from in &self.from {
            let pattern = project.join(from).display().to_string();
            let found = glob::glob(&pattern)?.collect::<Result<Vec<_>, _>>()?;
            ensure!(!found.is_empty(), "there is no {from}");
            for file in found {
                let own = file.file_name().context("names no file")?.to_string_lossy();
                let name = self.name.as_deref().unwrap_or(&own);
                files.push((file.clone(), format!("{}/{name}", self.to)));
            }
        }
        Ok(files)
    }

    /// The text of `file` as it is in the kernel's tree.
    pub fn read(&self, file: &Path) -> Result<String> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.text(&rust::inlined(&text, file)?)
            .with_context(|| format!("in {}", file.display()))
    }

    fn text(&self, text: &str) -> Result<String> {
        let drop = RegexSet::new(&self.drop)?;
        let keep = RegexSet::new(&self.keep)?;
        let mut kept: String = text
            .split_inclusive('\n')
            .filter(|line| !drop.is_match(line.trim_end()) || keep.is_match(line.trim_end()))
            .collect();
        for (pattern, with) in &self.common {
            let pattern = Regex::new(pattern)?;
            kept = pattern.replace_all(&kept, with.as_str()).into_owned();
        }
        for (pattern, with) in &self.replace {
            let pattern = Regex::new(pattern)?;
            ensure!(pattern.is_match(&kept), "nothing matches {pattern}");
            kept = pattern.replace_all(&kept, with.as_str()).into_owned();
        }
        Ok(kept)
    }
}

impl Insert {
    /// The text of the file that it makes, if it does.
    pub fn new_file(&self) -> Option<&str> {
        (self.before.is_none() && self.after.is_none()).then_some(self.text.as_str())
    }

    /// `text` with the lines in it.
    pub fn apply(&self, text: &str) -> Result<String> {
        let (pattern, after) = match (&self.before, &self.after) {
            (Some(before), None) => (before, false),
            (None, Some(after)) => (after, true),
            _ => bail!("{}: needs either `before` or `after`", self.file),
        };
        let matches = Regex::new(pattern)?;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let end = at + line.len();
            if matches.is_match(line.trim_end()) {
                let (head, tail) = text.split_at(if after { end } else { at });
                return Ok(format!("{head}{}{tail}", self.text));
            }
            at = end;
        }
        bail!("{}: no line matches {pattern}", self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIFF: &str = "Subject: [PATCH] pci: be kind\n\nIt was not.\n---\n\
        diff --git a/x.c b/x.c\n--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n";

    #[test]
    fn messages() {
        assert_eq!(
            message(DIFF).expect("as in the test"),
            ("pci: be kind".into(), "It was not.".into())
        );
        assert!(message("pci: be kind\n\nIt was not.\n---\n").is_err());
        assert!(message("Subject: [PATCH] pci: be kind\n\nIt was not.\n").is_err());
        assert_eq!(changed_files(DIFF), BTreeSet::from(["x.c".to_owned()]));
    }

    #[test]
    fn filled() {
        let long = "word ".repeat(20);
        let text = fill(&format!("{long}\n\n  {long}\n"));
        let (prose, trace) = text.split_once("\n\n").expect("as in the test");
        assert!(prose.lines().all(|line| line.len() <= COLUMNS));
        assert_eq!(trace.lines().count(), 1);
        let peer = fill(&format!("{} peer-to-peer DMA", "x".repeat(COLUMNS - 6)));
        assert!(peer.ends_with("\npeer-to-peer DMA"), "{peer}");
    }

    #[test]
    fn copies() {
        let mut copy = Copy {
            from: Vec::new(),
            to: String::new(),
            name: None,
            rules: vec!["common".into()],
            common: Vec::new(),
            drop: vec!["^b".into()],
            keep: vec!["2$".into()],
            replace: vec![("c(.)".into(), "${1}c".into())],
        };
        assert_eq!(
            copy.text("a\nb1\nb2\ncd\n").expect("as in the test"),
            "a\nb2\ndc\n"
        );
        // A rule without effect is an error: what it was for has moved.
        assert!(copy.text("a\n").is_err());

        // Those that several files share come first, and need not have any.
        assert!(copy.look_up(&Rules::new()).is_err());
        let rules = [
            ("^a".to_owned(), "c1".to_owned()),
            ("x".to_owned(), "y".to_owned()),
        ];
        copy.look_up(&Rules::from([("common".into(), rules.to_vec())]))
            .expect("as in the test");
        assert_eq!(copy.text("a\n").expect("as in the test"), "1c\n");
    }

    #[test]
    fn inserts() {
        let insert = |before: Option<&str>, after: Option<&str>| Insert {
            file: "f".into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
            text: "b\n".into(),
        };
        let before = insert(Some("^c$"), None);
        assert_eq!(
            before.apply("a\nc\nc\n").expect("as in the test"),
            "a\nb\nc\nc\n"
        );
        assert!(before.apply("a\n").is_err());
        let after = insert(None, Some("^a$"));
        assert_eq!(after.apply("a\nc\n").expect("as in the test"), "a\nb\nc\n");
        assert_eq!(after.new_file(), None);
        let new = insert(None, None);
        assert_eq!(new.new_file(), Some("b\n"));
        assert!(new.apply("a\n").is_err());
    }

    #[test]
    fn plans() {
        let ok = "title = 't'\ncover = 'c'\n[[patch]]\ndiff = 'd'\n";
        assert!(toml::from_str::<Plan>(ok).is_ok());
        let both: Plan =
            toml::from_str("title = 't'\ncover = 'c'\n[[patch]]\ndiff = 'd'\nsubject = 's'\n")
                .expect("as in the test");
        assert!(both.patch[0].check().is_err());
        let none: Plan =
            toml::from_str("title = 't'\ncover = 'c'\n[[patch]]\n").expect("as in the test");
        assert!(none.patch[0].check().is_err());
        for (patch, good) in [
            ("subject = 's'\nbody = 'b'\nremove = ['f']", true),
            ("diff = 'd'\nremove = ['f']", false),
        ] {
            let plan: Plan =
                toml::from_str(&format!("title = 't'\ncover = 'c'\n[[patch]]\n{patch}"))
                    .expect("as in the test");
            assert_eq!(plan.patch[0].check().is_ok(), good, "{patch}");
        }
    }
}
