// SPDX-License-Identifier: GPL-2.0

//! Lines and branches by function, from what gcovr has merged.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{bail, Result};
use serde::{Deserialize, Serialize};

/// The file whose every line has to be reached, or has a reason.
pub const WHOLE: &str = "drivers/pci/p2pdma.c";

/// What gcovr has merged.
#[derive(Debug, Deserialize)]
pub struct Merged {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    file: String,
    lines: Vec<Line>,
    functions: Vec<Start>,
}

#[derive(Debug, Deserialize)]
struct Line {
    line_number: usize,
    count: u64,
    #[serde(default)]
    branches: Vec<Branch>,
}

#[derive(Debug, Deserialize)]
struct Branch {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Start {
    name: String,
    lineno: usize,
}

/// The files that matter, and their functions; all functions, where none is named.
pub type Targets = BTreeMap<String, Vec<String>>;

/// Why lines cannot be reached.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasons {
    #[serde(default)]
    line: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    function: String,
    text: String,
    /// How many lines of the function that read so it is for.
    #[serde(default = "one")]
    lines: usize,
    why: String,
}

fn one() -> usize {
    1
}

/// Reasons, and how many lines each has been used for.
struct Known<'a>(Vec<(&'a Reason, usize)>);

impl<'a> Known<'a> {
    fn new(reasons: &'a Reasons) -> Self {
        Self(reasons.line.iter().map(|reason| (reason, 0)).collect())
    }

    fn of(&mut self, function: &str, text: &str) -> Option<&'a str> {
        let (reason, used) = self.0.iter_mut().find(|(reason, used)| {
            *used < reason.lines
                && reason.function == function
                && text.split_whitespace().eq(reason.text.split_whitespace())
        })?;
        *used += 1;
        Some(&reason.why)
    }

    /// Those that nothing needs.
    fn unused(&self) -> Vec<String> {
        let unused = self.0.iter().filter(|(_, used)| *used == 0);
        unused
            .map(|(reason, _)| format!("{}: {}", reason.function, reason.text))
            .collect()
    }
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Share {
    reached: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, reached: bool) {
        self.all += 1;
        self.reached += usize::from(reached);
    }

    fn sum(&mut self, other: Self) {
        self.all += other.all;
        self.reached += other.reached;
    }

    fn percent(self) -> f64 {
        if self.all == 0 {
            return 100.0;
        }
        self.reached as f64 * 100.0 / self.all as f64
    }

    fn text(self) -> String {
        format!(
            "{:>4}/{:<4} {:>5.1} %",
            self.reached,
            self.all,
            self.percent()
        )
    }
}

/// One function.
#[derive(Debug, Serialize)]
pub struct Function {
    name: String,
    lines: Share,
    branches: Share,
}

/// A line that is not reached, or one of its branches.
#[derive(Debug, Serialize)]
pub struct Missing {
    function: String,
    line: usize,
    text: String,
    /// Branches that are not taken, where the line is reached.
    branches: usize,
    why: Option<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Report {
    files: BTreeMap<String, Vec<Function>>,
    missing: Vec<Missing>,
    /// Lines with a reason not to be reached that were, with all their branches.
    needless: Vec<String>,
}

impl Report {
    /// Sorts lines by the functions that they are in. `source` reads a file of the kernel.
    pub fn new(
        merged: &Merged,
        targets: &Targets,
        reasons: &Reasons,
        source: impl Fn(&str) -> Result<String>,
    ) -> Result<Self> {
        let mut report = Self {
            files: BTreeMap::new(),
            missing: Vec::new(),
            needless: Vec::new(),
        };
        let mut known = Known::new(reasons);
        for (path, wanted) in targets {
            let Some(file) = merged.files.iter().find(|file| file.file == *path) else {
                bail!("nothing is known of {path}: was it compiled to be counted?");
            };
            let text = source(path)?;
            let text: Vec<&str> = text.lines().collect();
            let mut starts: Vec<&Start> = file.functions.iter().collect();
            starts.sort_by_key(|start| start.lineno);
            let mut functions: Vec<Function> = Vec::new();
            for line in &file.lines {
                let own = starts
                    .iter()
                    .rfind(|start| start.lineno <= line.line_number);
                let Some(name) = own.map(|start| &start.name) else {
                    continue;
                };
                if !wanted.is_empty() && !wanted.contains(name) {
                    continue;
                }
                if functions
                    .last()
                    .is_none_or(|function| function.name != *name)
                {
                    functions.push(Function {
                        name: name.clone(),
                        lines: Share::default(),
                        branches: Share::default(),
                    });
                }
                let Some(function) = functions.last_mut() else {
                    continue;
                };
                function.lines.add(line.count > 0);
                for branch in &line.branches {
                    function.branches.add(branch.count > 0);
                }
                let branches = line
                    .branches
                    .iter()
                    .filter(|branch| branch.count == 0)
                    .count();
                if path == WHOLE && (line.count == 0 || branches > 0) {
                    let text = text
                        .get(line.line_number - 1)
                        .map_or("", |text| text.trim());
                    report.missing.push(Missing {
                        function: name.clone(),
                        line: line.line_number,
                        text: text.to_owned(),
                        branches: if line.count == 0 { 0 } else { branches },
                        why: known.of(name, text).map(str::to_owned),
                    });
                }
            }
            report.files.insert(path.clone(), functions);
        }
        report.needless = known.unused();
        Ok(report)
    }

    /// Whether each line of the file that matters most is reached, with all its branches, or has a
    /// reason.
    pub fn is_good(&self) -> bool {
        self.missing.iter().all(|line| line.why.is_some())
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!("{:<44} {:<18} {}\n", "", "lines", "branches");
        for (path, functions) in &self.files {
            let mut all = (Share::default(), Share::default());
            for function in functions {
                all.0.sum(function.lines);
                all.1.sum(function.branches);
            }
            let _ = writeln!(text, "{path:<44} {}  {}", all.0.text(), all.1.text());
            for function in functions {
                let _ = writeln!(
                    text,
                    "  {:<42} {}  {}",
                    function.name,
                    function.lines.text(),
                    function.branches.text()
                );
            }
        }
        let _ = writeln!(text, "\nNot reached in {WHOLE}:");
        for line in &self.missing {
            let what = match line.branches {
                0 => "line".to_owned(),
                1 => "1 branch".to_owned(),
                n => format!("{n} branches"),
            };
            let _ = writeln!(
                text,
                "{:>5}: {}: {what}: {}\n       {}",
                line.line,
                line.function,
                line.text,
                line.why.as_deref().unwrap_or("no test, and no reason")
            );
        }
        for line in &self.needless {
            let _ = writeln!(text, "Reached, though unreached.toml has it: {line}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGED: &str = r#"{"files": [{"file": "drivers/pci/p2pdma.c",
        "functions": [{"name": "b", "lineno": 5}, {"name": "a", "lineno": 1}],
        "lines": [
            {"line_number": 1, "count": 3},
            {"line_number": 2, "count": 3, "branches": [{"count": 3}, {"count": 0}]},
            {"line_number": 3, "count": 0},
            {"line_number": 6, "count": 1}]}]}"#;

    fn report(reasons: &str) -> Report {
        let merged: Merged = serde_json::from_str(MERGED).expect("valid");
        let targets = Targets::from([(WHOLE.to_owned(), Vec::new())]);
        let reasons: Reasons = toml::from_str(reasons).expect("valid");
        let source = |_: &str| Ok("int a()\n\tif (x)\n\t\treturn  -1;\n\nint b()\n\tc();\n".into());
        Report::new(&merged, &targets, &reasons, source).expect("made")
    }

    #[test]
    fn lines_and_branches_belong_to_functions() {
        let report = report("");
        let functions = &report.files[WHOLE];
        assert_eq!(functions[0].name, "a");
        assert_eq!(functions[0].lines, Share { reached: 2, all: 3 });
        assert_eq!(functions[0].branches, Share { reached: 1, all: 2 });
        assert_eq!(functions[1].lines, Share { reached: 1, all: 1 });
        assert_eq!(report.missing.len(), 2);
        assert_eq!(report.missing[0].branches, 1);
        assert!(!report.is_good());
        assert!(report.text().contains("no test, and no reason"));
    }

    #[test]
    fn a_reason_is_good_enough() {
        let branch = "[[line]]\nfunction = \"a\"\ntext = \"if (x)\"\nwhy = \"always\"\n";
        let line = "[[line]]\nfunction = \"a\"\ntext = \"return -1;\"\nwhy = \"never\"\n";
        let reason = format!("{branch}{line}");
        assert!(report(&reason).is_good());
        assert!(!report(line).is_good());
        let other = report(&format!("{branch}{}", line.replace("\"a\"", "\"b\"")));
        assert!(!other.is_good());
        assert_eq!(other.needless, ["b: return -1;"]);
    }

    #[test]
    fn files_must_have_been_counted() {
        let merged: Merged = serde_json::from_str(MERGED).expect("valid");
        let targets = Targets::from([("mm/gup.c".to_owned(), Vec::new())]);
        let source = |_: &str| Ok(String::new());
        let error = Report::new(&merged, &targets, &Reasons::default(), source);
        assert!(error.expect_err("refused").to_string().contains("mm/gup.c"));
    }
}
