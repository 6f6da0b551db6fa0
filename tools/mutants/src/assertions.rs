// SPDX-License-Identifier: GPL-2.0

//! A table of the test programs: how many assertions each makes, and what it was seen to find.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
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
#[derive(Debug, Default, Eq, PartialEq)]
struct Program {
    tests: usize,
    assertions: usize,
    breaks: usize,
    mutants: usize,
}

/// Counts in one source.
fn count(source: &str) -> Result<Option<Program>> {
    if !source.contains("kselftest") {
        return Ok(None);
    }
    let tests = Regex::new(r"(?m)^(TEST|TEST_F|TEST_F_TIMEOUT|TEST_SIGNAL|TEST_F_SIGNAL)\(")?;
    // Those of the harness, and those of programs that have results without it.
    let assertions = Regex::new(concat!(
        r"\b((EXPECT|ASSERT)_(EQ|NE|LT|LE|GT|GE|NULL|TRUE|FALSE|STREQ|STRNE)",
        r"|ksft_test_result\w*)\(",
    ))?;
    let program = Program {
        tests: tests.find_iter(source).count(),
        assertions: assertions.find_iter(source).count(),
        ..Program::default()
    };
    Ok((program.assertions > 0).then_some(program))
}

/// Rows of the tables of deliberate breaks, by program.
fn breaks(text: &str) -> Result<BTreeMap<String, usize>> {
    let row = Regex::new(r"(?m)^   \* - ``([\w-]+)``")?;
    let mut found = BTreeMap::new();
    for name in row.captures_iter(text) {
        *found.entry(name[1].to_owned()).or_insert(0) += 1;
    }
    Ok(found)
}

/// The table, from the sources of the tests, their list, the recorded breaks and the last mutants.
pub fn table(selftests: &Path, testing: &Path, noticed: &Noticed) -> Result<String> {
    let read = |path: &Path| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let mut programs = BTreeMap::new();
    for entry in
        fs::read_dir(selftests).with_context(|| format!("cannot read {}", selftests.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if let Some(program) = count(&read(&path)?)? {
                programs.insert(name, program);
            }
        }
    }
    let suite: Suite = toml::from_str(&read(&selftests.join("tests.toml"))?)?;
    let aliases: BTreeMap<&str, &str> = suite
        .test
        .iter()
        .filter_map(|test| Some((&*test.name, test.program.as_deref()?)))
        .collect();
    let own = |name: &str| aliases.get(name).copied().unwrap_or(name).to_owned();
    for (name, breaks) in breaks(&read(testing)?)? {
        if let Some(program) = programs.get_mut(&own(&name)) {
            program.breaks += breaks;
        }
    }
    for (name, mutants) in &noticed.tests {
        if let Some(program) = programs.get_mut(&own(name)) {
            program.mutants += mutants;
        }
    }
    Ok(rst(&programs, noticed))
}

fn rst(programs: &BTreeMap<String, Program>, noticed: &Noticed) -> String {
    let mut text = String::from(
        ".. SPDX-License-Identifier: GPL-2.0\n.. Written by `p2pdma-mutants assertions`.\n\n\
         =============================\nWhat each test program checks\n\
         =============================\n\n\
         How many tests and assertions are in the source of each program, of which many\n\
         are run for each pair of devices; how many of the deliberate breaks in\n\
         Documentation/p2pdma/testing.rst it was seen to find; and how many mutants it\n\
         was the first to notice",
    );
    if noticed.date.is_empty() {
        text += ".\n";
    } else {
        let _ = write!(
            text,
            ", in the run of {} on kernel\n{} (Documentation/p2pdma/mutants.rst). The cheapest\n\
             programs are run first, and take most of them.\n",
            noticed.date, noticed.kernel
        );
    }
    text += "\n.. list-table::\n   :header-rows: 1\n\n   * - Program\n     - Tests\n     \
             - Assertions\n     - Breaks\n     - Mutants\n";
    let mut all = Program::default();
    for (name, program) in programs {
        let Program {
            tests,
            assertions,
            breaks,
            mutants,
        } = program;
        let _ = write!(
            text,
            "   * - ``{name}``\n     - {tests}\n     - {assertions}\n     - {breaks}\n     \
             - {mutants}\n"
        );
        all.tests += tests;
        all.assertions += assertions;
        all.breaks += breaks;
        all.mutants += mutants;
    }
    let Program {
        tests,
        assertions,
        breaks,
        mutants,
    } = all;
    let _ = write!(
        text,
        "   * - all\n     - {tests}\n     - {assertions}\n     - {breaks}\n     - {mutants}\n"
    );
    let unseen: BTreeSet<&str> = programs
        .iter()
        .filter(|(_, program)| program.breaks == 0 && program.mutants == 0)
        .map(|(name, _)| &**name)
        .collect();
    if !unseen.is_empty() {
        text += "\nNever seen to fail, as far as is recorded:\n";
        let last = unseen.len() - 1;
        for (index, name) in unseen.into_iter().enumerate() {
            let _ = writeln!(text, "``{name}``{}", if index == last { "." } else { "," });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_assertions_are_counted() {
        let source = "#include \"kselftest_harness.h\"\nTEST_F(a, b)\n{\n\tEXPECT_EQ(1, 1);\n\
                      \tASSERT_LE(0, 1)\n\t\tTH_LOG(\"x\");\n}\n/* EXPECTED */\n";
        let program = count(source).expect("counted").expect("a test");
        assert_eq!((program.tests, program.assertions), (1, 2));
        assert_eq!(count("int main() {}").expect("counted"), None);
    }

    #[test]
    fn breaks_are_counted_by_program() {
        let text = "   * - ``a``\n     - x\n   * - ``b``, in ``hotplug``\n     - y\n   * - ``a``\n";
        let found = breaks(text).expect("counted");
        assert_eq!(found["a"], 2);
        assert_eq!(found["b"], 1);
    }
}
