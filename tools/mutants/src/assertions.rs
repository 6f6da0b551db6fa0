// SPDX-License-Identifier: GPL-2.0

//! A table of the test programs: how many assertions each makes, what it was seen to find, and
//! when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// What the last recorded run of the mutants came to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Noticed {
    /// The day.
    pub date: String,
    /// The kernel.
    pub kernel: String,
    /// How many mutants were noticed first by a test.
    pub tests: BTreeMap<String, usize>,
}

/// When the newest of each test's deliberate breaks was recorded.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Days, by the names in the table of breaks.
    pub tests: BTreeMap<String, String>,
}

/// The part of tests.toml that matters: tests that are called otherwise than their program.
#[derive(Deserialize)]
struct Suite {
    test: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    program: Option<String>,
}

/// A test program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Program {
    tests: usize,
    assertions: usize,
    breaks: usize,
    mutants: usize,
    /// The day on which it was last seen to fail; empty if it never was.
    seen: String,
}

/// A source, or a header of several.
#[derive(Clone, Debug, Default)]
struct Source {
    counts: Program,
    /// Headers beside it.
    includes: Vec<String>,
}

/// Counts in one file; what macros are made of does not count, but where they are used.
fn count(source: &str) -> Result<Source> {
    let tests = Regex::new(r"(?m)^(TEST|TEST_F|TEST_F_TIMEOUT|TEST_SIGNAL|TEST_F_SIGNAL)\(")?;
    // Those of the harness and of the program itself, and those of programs that have results
    // without it.
    let assertions = Regex::new(r"\b((EXPECT|ASSERT)_[A-Z_]+|ksft_test_result\w*)\(")?;
    let macros = Regex::new(r"(?m)^#define(.*\\\n)*.*\n")?;
    let include = Regex::new(r#"(?m)^#include "([\w-]+\.h)""#)?;
    let body = macros.replace_all(source, "");
    Ok(Source {
        counts: Program {
            tests: tests.find_iter(&body).count(),
            assertions: assertions.find_iter(&body).count(),
            ..Program::default()
        },
        includes: include
            .captures_iter(source)
            .map(|found| found[1].to_owned())
            .collect(),
    })
}

/// The beginning of a row of the tables of deliberate breaks: the name of a test.
fn row() -> Result<Regex> {
    Ok(Regex::new(r"(?m)^   \* - ``([\w-]+)``")?)
}

/// Rows of the tables of deliberate breaks, by test.
fn breaks(text: &str) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    for name in row()?.captures_iter(text) {
        *found.entry(name[1].to_owned()).or_insert(0) += 1;
    }
    Ok(found)
}

/// The newest day of each test's rows, as git tells it.
pub fn recorded(testing: &Path) -> Result<Recorded> {
    let git = Command::new("git")
        .args(["blame", "-c", "--date=short", "--"])
        .arg(testing)
        .output()
        .context("cannot run git")?;
    if !git.status.success() {
        bail!("git blame: {}", String::from_utf8_lossy(&git.stderr).trim());
    }
    newest(&String::from_utf8_lossy(&git.stdout))
}

/// The newest day of each test's rows, in what `git blame -c --date=short` prints.
fn newest(blame: &str) -> Result<Recorded> {
    let row = row()?;
    let line = Regex::new(r"^\S+\t\([^\t]*\t(\d{4}-\d\d-\d\d)\t *\d+\)(.*)$")?;
    let mut tests = BTreeMap::new();
    for line in blame.lines().filter_map(|text| line.captures(text)) {
        if let Some(name) = row.captures(&line[2]) {
            let newest: &mut String = tests.entry(name[1].to_owned()).or_default();
            if **newest < line[1] {
                line[1].clone_into(newest);
            }
        }
    }
    Ok(Recorded { tests })
}

/// All test programs.
struct Programs {
    rows: BTreeMap<String, Program>,
    /// Assertions in all files, each counted once.
    assertions: usize,
}

/// The table, from the sources of the tests, their list, the recorded breaks and the last mutants.
/// An error if a program was never seen to fail, but for those in `idle`.
pub fn table(
    selftests: &Path,
    testing: &Path,
    noticed: &Noticed,
    recorded: &Recorded,
    idle: &[&str],
) -> Result<String> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut sources = BTreeMap::new();
    let entries =
        fs::read_dir(selftests).with_context(|| format!("cannot read {}", selftests.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".c") || name.ends_with(".h") {
            sources.insert(name, count(&read(&path)?)?);
        }
    }
    let suite: Suite = toml::from_str(&read(&selftests.join("tests.toml"))?)?;
    let programs = programs(
        &sources,
        &suite,
        &breaks(&read(testing)?)?,
        noticed,
        recorded,
    );
    let unseen: BTreeSet<&str> = programs
        .rows
        .iter()
        .filter(|(name, program)| program.seen.is_empty() && !idle.contains(&&***name))
        .map(|(name, _)| &**name)
        .collect();
    if !unseen.is_empty() {
        bail!(
            "never seen to fail: {}; break what each checks once, and put it into {}",
            unseen.into_iter().collect::<Vec<_>>().join(", "),
            testing.display()
        );
    }
    Ok(rst(&programs, noticed))
}

/// What is known of each program that a test runs.
fn programs(
    sources: &BTreeMap<String, Source>,
    suite: &Suite,
    breaks: &BTreeMap<String, usize>,
    noticed: &Noticed,
    recorded: &Recorded,
) -> Programs {
    let own: BTreeMap<&str, &str> = suite
        .test
        .iter()
        .map(|test| (&*test.name, test.program.as_deref().unwrap_or(&test.name)))
        .collect();
    let mut rows: BTreeMap<String, Program> = BTreeMap::new();
    for program in own.values() {
        let mut counts = Program::default();
        if let Some(source) = sources.get(&format!("{program}.c")) {
            counts = source.counts.clone();
            for header in source.includes.iter().filter_map(|name| sources.get(name)) {
                counts.assertions += header.counts.assertions;
            }
        }
        rows.insert((*program).to_owned(), counts);
    }
    // A table of breaks may name a test, or its program.
    let mut row = |name: &str, change: &dyn Fn(&mut Program)| {
        let program = own.get(name).copied().unwrap_or(name);
        if let Some(program) = rows.get_mut(program) {
            change(program);
        }
    };
    for (name, count) in breaks {
        row(name, &|program| program.breaks += count);
    }
    for (name, day) in &recorded.tests {
        row(name, &|program| {
            program.seen = program.seen.clone().max(day.clone())
        });
    }
    for (name, count) in &noticed.tests {
        row(name, &|program| {
            program.mutants += count;
            program.seen = program.seen.clone().max(noticed.date.clone());
        });
    }
    Programs {
        rows,
        assertions: sources
            .values()
            .map(|source| source.counts.assertions)
            .sum(),
    }
}

fn rst(programs: &Programs, noticed: &Noticed) -> String {
    let mut text = format!(
        ".. SPDX-License-Identifier: GPL-2.0\n.. Written by `p2pdma-mutants assertions`.\n\n\
         =============================\nWhat each test program checks\n\
         =============================\n\n\
         How many tests and assertions are in the source of each program and in the headers\n\
         beside it, of which many are run for each pair of devices; how many of the\n\
         deliberate breaks in Documentation/p2pdma/testing.rst it was seen to find; how many\n\
         mutants it was the first to notice, in the run of {} on kernel\n\
         {} (Documentation/p2pdma/mutants.rst); and on which day the newest of\n\
         these was recorded. The cheapest programs are run first, and take most of the\n\
         mutants. Programs without a number are not written in C.\n\n\
         .. list-table::\n   :header-rows: 1\n\n   * - Program\n     - Tests\n     \
         - Assertions\n     - Breaks\n     - Mutants\n     - Last seen to fail\n",
        noticed.date, noticed.kernel
    );
    let mut line = |name: &str, program: &Program| {
        let numbers = [
            program.tests,
            program.assertions,
            program.breaks,
            program.mutants,
        ];
        let _ = writeln!(text, "   * - {name}");
        for (index, number) in numbers.into_iter().enumerate() {
            let known = number != 0 || index > 1;
            let _ = match known {
                true => writeln!(text, "     - {number}"),
                false => writeln!(text, "     -"),
            };
        }
        let _ = writeln!(text, "{}", format!("     - {}", program.seen).trim_end());
    };
    let mut all = Program {
        assertions: programs.assertions,
        ..Program::default()
    };
    for (name, program) in &programs.rows {
        line(&format!("``{name}``"), program);
        all.tests += program.tests;
        all.breaks += program.breaks;
        all.mutants += program.mutants;
        all.seen = all.seen.max(program.seen.clone());
    }
    line("all", &all);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_assertions_are_counted() {
        let source = "#include \"kselftest_harness.h\"\n#include \"p2p.h\"\n\
                      #define EXPECT_BOTH(a, b) \\\n\tEXPECT_EQ(a, b)\n\
                      TEST_F(a, b)\n{\n\tEXPECT_EQ(1, 1);\n\
                      \tASSERT_LE(0, 1)\n\t\tTH_LOG(\"x\");\n\tEXPECT_BOTH(1, 1);\n}\n\
                      /* EXPECTED */\n";
        let found = count(source).expect("counted");
        assert_eq!((found.counts.tests, found.counts.assertions), (1, 3));
        assert_eq!(found.includes, ["kselftest_harness.h", "p2p.h"]);
    }

    #[test]
    fn breaks_are_counted_by_test() {
        let text = "   * - ``a``\n     - x\n   * - ``b``, in ``hotplug``\n     - y\n   * - ``a``\n";
        let found = breaks(text).expect("counted");
        assert_eq!(found["a"], 2);
        assert_eq!(found["b"], 1);
    }

    #[test]
    fn the_newest_row_counts() {
        let blame = "1111\t(   Somebody\t2026-01-02\t36)   * - ``a``\n\
                     2222\t(Somebody Else\t2026-01-03\t40)   * - ``a``, in ``hotplug``\n\
                     3333\t(   Somebody\t2026-01-04\t 9)     - x\n";
        let found = newest(blame).expect("read");
        assert_eq!(found.tests["a"], "2026-01-03");
    }

    #[test]
    fn what_is_known_of_a_test_is_its_programs() {
        let counts = |assertions| Program {
            assertions,
            ..Program::default()
        };
        let source = Source {
            counts: counts(3),
            includes: vec!["h.h".into(), "elsewhere.h".into()],
        };
        let header = Source {
            counts: counts(2),
            includes: Vec::new(),
        };
        let sources = [("a.c".to_owned(), source), ("h.h".to_owned(), header)];
        let suite = toml::from_str(
            "[[test]]\nname = \"a\"\n[[test]]\nname = \"a_io\"\nprogram = \"a\"\n\
             [[test]]\nname = \"r\"\nprogram = \"rust\"\n[[test]]\nname = \"idle\"\n",
        )
        .expect("a suite");
        let map = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
        let noticed = Noticed {
            date: "2026-02-01".into(),
            tests: map("a_io", 4),
            ..Noticed::default()
        };
        let recorded = Recorded {
            tests: BTreeMap::from([
                ("a".to_owned(), "2026-01-01".to_owned()),
                ("rust".to_owned(), "2026-03-01".to_owned()),
            ]),
        };
        let found = programs(&sources.into(), &suite, &map("a", 1), &noticed, &recorded);
        let expected = Program {
            assertions: 5,
            breaks: 1,
            mutants: 4,
            seen: "2026-02-01".into(),
            ..Program::default()
        };
        assert_eq!(found.rows["a"], expected);
        assert_eq!(found.rows["rust"].seen, "2026-03-01");
        assert_eq!(found.rows["idle"].seen, "");
        assert_eq!(found.assertions, 5);
        let text = rst(&found, &noticed);
        assert!(text.contains("   * - ``idle``\n     -\n     -\n     - 0\n     - 0\n     -\n"));
    }
}
