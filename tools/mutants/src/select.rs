// SPDX-License-Identifier: GPL-2.0

//! Which mutants are run, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;

use crate::judge::{function_of, Judgement, Verdict};
use crate::list::Mutant;
use crate::report::Known;

/// What the command line asks for.
#[derive(Args, Default)]
pub struct Selection {
    /// Only mutants whose names have this; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Only those of this file; may be repeated
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Only the I-th of N parts
    #[arg(long, value_name = "I/N", value_parser = parse_shard)]
    shard: Option<(usize, usize)>,
    /// Run what was judged before, too: `survived`, or `all`
    #[arg(long, value_name = "WHICH", value_parser = ["survived", "all"])]
    again: Option<String>,
}

fn parse_shard(text: &str) -> Result<(usize, usize), String> {
    let parsed = text
        .split_once('/')
        .and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parsed {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        _ => Err("a part is I/N, as 2/3".into()),
    }
}

impl Selection {
    /// What is to be run: from all functions by turns, so that what there is time for says
    /// something of all.
    pub fn select<'a>(
        &self,
        mutants: &'a [Mutant],
        judgements: &[Judgement],
        reasons: &Known,
    ) -> Vec<&'a Mutant> {
        let again = self.again.as_deref();
        let keep = |judgement: &&Judgement| match again {
            Some("all") => false,
            Some(_) => judgement.verdict != Verdict::Survived,
            None => true,
        };
        // The last judgement counts, as it does in the report.
        let last: BTreeMap<&str, &Judgement> = judgements
            .iter()
            .map(|judgement| (&*judgement.name, judgement))
            .collect();
        let done: BTreeSet<&str> = last
            .into_values()
            .filter(keep)
            .map(|judgement| &*judgement.name)
            .collect();
        let (shard, of) = self.shard.unwrap_or((1, 1));
        let mut selected: Vec<(usize, &Mutant)> = Vec::new();
        let mut turn = 0;
        let mut function = "";
        for mutant in mutants.iter().filter(|mutant| mutant.error.is_none()) {
            let own = function_of(&mutant.name);
            turn = if own == function { turn + 1 } else { 0 };
            function = own;
            selected.push((turn, mutant));
        }
        selected.sort_by_key(|(turn, mutant)| (*turn, mutant.number));
        selected
            .into_iter()
            .enumerate()
            .filter(|(index, _)| index % of == shard - 1)
            .map(|(_, (_, mutant))| mutant)
            .filter(|mutant| {
                !done.contains(&*mutant.name)
                    && (again == Some("all") || !reasons.has(&mutant.name))
                    && (self.file.is_empty() || self.file.contains(&mutant.file))
                    && (self.only.is_empty()
                        || self.only.iter().any(|text| mutant.name.contains(&**text)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::Operator;

    fn mutants() -> Vec<Mutant> {
        let new = |number, name: &str, file: &str| Mutant {
            number,
            name: name.into(),
            file: file.into(),
            line: 1,
            operator: Operator::ConditionNegated,
            diff: String::new(),
            error: None,
        };
        let mut all = vec![
            new(1, "f: a", "one.c"),
            new(2, "f: b", "one.c"),
            new(3, "f: c", "one.c"),
            new(4, "g: a", "one.c"),
            new(5, "g: b", "one.c"),
            new(6, "h: a", "two.c"),
        ];
        all[1].error = Some("does not compile".into());
        all
    }

    fn judged(name: &str, verdict: Verdict) -> Judgement {
        Judgement {
            name: name.into(),
            verdict,
            by: Vec::new(),
            seconds: 1.0,
            flaky: Vec::new(),
        }
    }

    fn numbers(selection: &Selection, judgements: &[Judgement], known: &Known) -> Vec<u32> {
        let mutants = mutants();
        let selected = selection.select(&mutants, judgements, known);
        selected.iter().map(|mutant| mutant.number).collect()
    }

    fn known() -> Known {
        let reason = "[[mutant]]\nnames = [\"g: b\"]\nreason = \"x\"";
        Known {
            equivalent: toml::from_str(reason).expect("reasons"),
            elsewhere: Default::default(),
        }
    }

    #[test]
    fn functions_take_turns_and_what_does_not_compile_has_none() {
        let all = Selection::default();
        let nothing = toml::from_str("").expect("reasons");
        let nothing = Known {
            equivalent: nothing,
            elsewhere: Default::default(),
        };
        assert_eq!(numbers(&all, &[], &nothing), [1, 4, 6, 3, 5]);
        assert_eq!(numbers(&all, &[], &known()), [1, 4, 6, 3]);
    }

    #[test]
    fn parts_are_all_of_it_and_overlap_nowhere() {
        let part = |i| Selection {
            shard: Some((i, 2)),
            ..Selection::default()
        };
        // A part stays the same while it is run: what is done counts in its place.
        let done = [judged("f: a", Verdict::Killed)];
        assert_eq!(numbers(&part(1), &[], &known()), [1, 6]);
        assert_eq!(numbers(&part(2), &[], &known()), [4, 3]);
        assert_eq!(numbers(&part(1), &done, &known()), [6]);
        assert_eq!(numbers(&part(2), &done, &known()), [4, 3]);
    }

    #[test]
    fn what_was_judged_is_run_again_if_it_is_asked_for() {
        let again = |which: Option<&str>| Selection {
            again: which.map(Into::into),
            ..Selection::default()
        };
        let done = [
            judged("f: a", Verdict::Survived),
            judged("f: c", Verdict::Survived),
            judged("g: a", Verdict::Killed),
            // The last verdict is the one that counts.
            judged("f: c", Verdict::Killed),
        ];
        assert_eq!(numbers(&again(None), &done, &known()), [6]);
        assert_eq!(numbers(&again(Some("survived")), &done, &known()), [1, 6]);
        assert_eq!(
            numbers(&again(Some("all")), &done, &known()),
            [1, 4, 6, 3, 5]
        );
    }

    #[test]
    fn files_and_names_are_asked_for() {
        let only = Selection {
            only: vec!["g: ".into(), ": c".into()],
            ..Selection::default()
        };
        assert_eq!(numbers(&only, &[], &known()), [4, 3]);
        let file = Selection {
            file: vec!["two.c".into()],
            ..Selection::default()
        };
        assert_eq!(numbers(&file, &[], &known()), [6]);
    }

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!(parse_shard("2/3"), Ok((2, 3)));
        for bad in ["0/3", "4/3", "1/0", "1", "1/", "/2", "a/b", "-1/2"] {
            assert!(parse_shard(bad).is_err(), "{bad}");
        }
    }
}
