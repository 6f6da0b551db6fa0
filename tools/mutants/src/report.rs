// SPDX-License-Identifier: GPL-2.0

//! What became of the mutants.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{bail, Result};
use serde::{Deserialize, Serialize};

use crate::derive::Operator;
use crate::judge::{Judgement, Verdict};
use crate::list::Mutant;

/// Mutants that are not run, each with the reason.
#[derive(Debug, Default)]
pub struct Known {
    /// Those that change nothing that a test could see.
    pub equivalent: Reasons,
    /// Those that only other machines or kernels could tell.
    pub elsewhere: Reasons,
}

impl Known {
    /// Whether there is a reason not to run a mutant.
    pub fn has(&self, name: &str) -> bool {
        self.equivalent.of(name).is_some() || self.elsewhere.of(name).is_some()
    }

    /// Refuses names that no mutant has: the source has changed.
    pub fn check(&self, mutants: &[Mutant]) -> Result<()> {
        let all = [&self.equivalent, &self.elsewhere].into_iter();
        for name in all.flat_map(|one| one.mutant.iter().flat_map(|one| &one.names)) {
            if !mutants.iter().any(|mutant| mutant.name == *name) {
                bail!("equivalent.toml or elsewhere.toml: there is no mutant called \"{name}\"");
            }
        }
        Ok(())
    }
}

/// Names with reasons.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasons {
    #[serde(default)]
    mutant: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    names: Vec<String>,
    reason: String,
}

impl Reasons {
    fn of(&self, name: &str) -> Option<&str> {
        let has = |one: &&Reason| one.names.iter().any(|known| known == name);
        self.mutant.iter().find(has).map(|one| &*one.reason)
    }
}

/// The end of a mutant, as the report has it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum End<'a> {
    Killed { by: &'a [String], seconds: f64 },
    Hung { by: &'a [String], seconds: f64 },
    Survived { seconds: f64 },
    DoesNotBuild { error: &'a str },
    Equivalent { reason: &'a str },
    Elsewhere { reason: &'a str },
    NotRun,
}

#[derive(Clone, Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    file: String,
    line: usize,
    number: u32,
    #[serde(flatten)]
    end: End<'a>,
    #[serde(skip)]
    diff: &'a str,
}

/// Numbers, over all mutants or those of one file.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    mutants: usize,
    killed: usize,
    hung: usize,
    survived: usize,
    does_not_build: usize,
    equivalent: usize,
    elsewhere: usize,
    not_run: usize,
}

impl Counts {
    fn add(&mut self, end: &End<'_>) {
        self.mutants += 1;
        match end {
            End::Killed { .. } => self.killed += 1,
            End::Hung { .. } => self.hung += 1,
            End::Survived { .. } => self.survived += 1,
            End::DoesNotBuild { .. } => self.does_not_build += 1,
            End::Equivalent { .. } => self.equivalent += 1,
            End::Elsewhere { .. } => self.elsewhere += 1,
            End::NotRun => self.not_run += 1,
        }
    }

    /// Of those that are not equivalent, whether they can be told here or not, how many were
    /// noticed, in percent; without those that are still to be run.
    fn share(&self) -> f64 {
        let noticed = self.killed + self.hung;
        let all = noticed + self.survived + self.elsewhere;
        if all == 0 {
            return 0.0;
        }
        noticed as f64 * 100.0 / all as f64
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    total: Counts,
    files: BTreeMap<String, Counts>,
    kinds: BTreeMap<Operator, Counts>,
    /// Seconds until the verdict, at the median of those that were killed.
    median_seconds: f64,
    /// How many were killed by which test first.
    tests: BTreeMap<&'a str, usize>,
    /// Those that are called equivalent and were killed: that is a mistake.
    wrongly_equivalent: Vec<&'a str>,
    mutants: Vec<Row<'a>>,
}

impl<'a> Report<'a> {
    /// Puts together what is known. A mutant's last judgement counts.
    pub fn new(mutants: &'a [Mutant], judgements: &'a [Judgement], known: &'a Known) -> Self {
        let last: BTreeMap<&str, &Judgement> = judgements
            .iter()
            .map(|judgement| (&*judgement.name, judgement))
            .collect();
        let mut report = Self {
            total: Counts::default(),
            files: BTreeMap::new(),
            kinds: BTreeMap::new(),
            median_seconds: 0.0,
            tests: BTreeMap::new(),
            wrongly_equivalent: Vec::new(),
            mutants: Vec::new(),
        };
        let mut times = Vec::new();
        for mutant in mutants {
            let judgement = last.get(&*mutant.name);
            let equivalent = known.equivalent.of(&mutant.name);
            let elsewhere = known.elsewhere.of(&mutant.name);
            let end = match (&mutant.error, judgement, equivalent) {
                (Some(error), _, _) => End::DoesNotBuild { error },
                (None, Some(judgement), _) if judgement.verdict != Verdict::Survived => {
                    if equivalent.is_some() {
                        report.wrongly_equivalent.push(&mutant.name);
                    }
                    times.push(judgement.seconds);
                    let (by, seconds) = (&*judgement.by, judgement.seconds);
                    if let Some(first) = by.first() {
                        let test = first.split('/').nth(1).unwrap_or("the time limit");
                        *report.tests.entry(test).or_default() += 1;
                    }
                    if judgement.verdict == Verdict::Killed {
                        End::Killed { by, seconds }
                    } else {
                        End::Hung { by, seconds }
                    }
                }
                (None, _, Some(reason)) => End::Equivalent { reason },
                (None, judgement, None) => match (elsewhere, judgement) {
                    (Some(reason), _) => End::Elsewhere { reason },
                    (None, Some(judgement)) => End::Survived {
                        seconds: judgement.seconds,
                    },
                    (None, None) => End::NotRun,
                },
            };
            report.total.add(&end);
            let file = mutant.file.display().to_string();
            report.files.entry(file.clone()).or_default().add(&end);
            report.kinds.entry(mutant.operator).or_default().add(&end);
            report.mutants.push(Row {
                name: &mutant.name,
                file,
                line: mutant.line,
                number: mutant.number,
                end,
                diff: &mutant.diff,
            });
        }
        times.sort_by(f64::total_cmp);
        report.median_seconds = times.get(times.len() / 2).copied().unwrap_or_default();
        report
    }

    /// How many were noticed first by which test.
    pub fn noticed(&self) -> BTreeMap<String, usize> {
        self.tests
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    /// Whether none has survived, and none is wrongly called equivalent.
    pub fn is_good(&self) -> bool {
        self.total.survived == 0 && self.wrongly_equivalent.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.mutants {
            if let End::Survived { seconds } = row.end {
                let _ = writeln!(
                    text,
                    "survived: {}:{}: {} ({seconds:.0} s)\n{}",
                    row.file, row.line, row.name, row.diff
                );
            }
        }
        for row in &self.mutants {
            if let End::Hung { by, seconds } = row.end {
                let by = by.first().map_or("", |by| by);
                let _ = writeln!(
                    text,
                    "no end of it: {}:{}: {} ({by}, {seconds:.0} s)",
                    row.file, row.line, row.name
                );
            }
        }
        for name in &self.wrongly_equivalent {
            let _ = writeln!(text, "killed, though equivalent.toml has it: {name}");
        }
        let total = ("all".to_owned(), self.total.clone());
        text += &table("file", self.files.clone().into_iter().chain([total]));
        let kinds = self.kinds.iter();
        let kinds = kinds.map(|(kind, counts)| (kind.name().to_owned(), counts.clone()));
        text += &format!("\n{}", table("kind", kinds));
        let _ = writeln!(text, "\nnoticed first by");
        for (test, count) in &self.tests {
            let _ = writeln!(text, "  {test:<30} {count:>5}");
        }
        let _ = writeln!(
            text,
            "seconds to the verdict, median of those noticed: {:.1}",
            self.median_seconds
        );
        if self.total.not_run > 0 {
            let _ = writeln!(
                text,
                "{} are still to be run: the percentages are of the others",
                self.total.not_run
            );
        }
        text
    }
}

/// A table of counts.
fn table(title: &str, rows: impl Iterator<Item = (String, Counts)>) -> String {
    let mut text = format!(
        "{title:<28} {:>7} {:>6} {:>4} {:>8} {:>10} {:>9} {:>9} {:>7} {:>8}\n",
        "mutants",
        "killed",
        "hung",
        "survived",
        "equivalent",
        "elsewhere",
        "not built",
        "not run",
        "noticed"
    );
    for (name, counts) in rows {
        let _ = writeln!(
            text,
            "{name:<28} {:>7} {:>6} {:>4} {:>8} {:>10} {:>9} {:>9} {:>7} {:>6.1} %",
            counts.mutants,
            counts.killed,
            counts.hung,
            counts.survived,
            counts.equivalent,
            counts.elsewhere,
            counts.does_not_build,
            counts.not_run,
            counts.share()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(name: &str, error: Option<&str>) -> Mutant {
        Mutant {
            number: 1,
            name: name.into(),
            file: "a.c".into(),
            line: 1,
            operator: Operator::CallDropped,
            diff: "-x\n".into(),
            error: error.map(Into::into),
        }
    }

    fn judgement(name: &str, verdict: Verdict, seconds: f64) -> Judgement {
        Judgement {
            name: name.into(),
            verdict,
            by: vec!["switch/p2pdma_pool/case".into()],
            seconds,
            flaky: Vec::new(),
        }
    }

    fn reasons(names: &[&str]) -> Reasons {
        let one = Reason {
            names: names.iter().map(|&name| name.into()).collect(),
            reason: "nobody looks".into(),
        };
        Reasons { mutant: vec![one] }
    }

    #[test]
    fn each_end_is_counted() {
        let names = [
            "killed",
            "hung",
            "survived",
            "equivalent",
            "wrong",
            "elsewhere",
            "new",
        ];
        let mutants: Vec<Mutant> = names
            .iter()
            .map(|name| mutant(name, None))
            .chain([mutant("broken", Some("no such thing"))])
            .collect();
        let judgements = [
            judgement("killed", Verdict::Survived, 50.0),
            judgement("killed", Verdict::Killed, 1.0),
            judgement("hung", Verdict::Hung, 9.0),
            judgement("survived", Verdict::Survived, 70.0),
            judgement("equivalent", Verdict::Survived, 70.0),
            judgement("wrong", Verdict::Killed, 3.0),
        ];
        let known = Known {
            equivalent: reasons(&["equivalent", "wrong"]),
            elsewhere: reasons(&["elsewhere", "killed"]),
        };
        let report = Report::new(&mutants, &judgements, &known);
        let expected = Counts {
            mutants: 8,
            killed: 2,
            hung: 1,
            survived: 1,
            does_not_build: 1,
            equivalent: 1,
            elsewhere: 1,
            not_run: 1,
        };
        assert_eq!(report.total, expected);
        assert_eq!(report.kinds[&Operator::CallDropped], expected);
        assert_eq!(report.wrongly_equivalent, ["wrong"]);
        assert!(!report.is_good());
        assert!((report.median_seconds - 3.0).abs() < 0.01);
        // Three were noticed; one survived, and one is told elsewhere.
        assert!((report.total.share() - 60.0).abs() < 0.01);
        assert_eq!(report.tests["p2pdma_pool"], 3);
        let text = report.text();
        assert!(text.contains("survived: a.c:1: survived (70 s)"), "{text}");
        assert!(text.contains("no end of it: a.c:1: hung"), "{text}");
        assert!(text.contains("1 are still to be run"), "{text}");
    }

    #[test]
    fn what_is_known_must_be_there() {
        let known = Known {
            equivalent: Reasons::default(),
            elsewhere: reasons(&["gone"]),
        };
        let error = known.check(&[mutant("there", None)]).expect_err("refused");
        assert!(error.to_string().contains("\"gone\""), "{error}");
        assert!(known.has("gone") && !known.has("there"));
    }
}
