// SPDX-License-Identifier: GPL-2.0

//! The test suite: `tests.toml` says which programs run where, and what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{anyhow, bail, Context, Result};
use glob::Pattern;
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::splat::Splat;
use crate::topology::Topology;

/// What kselftest gives a test that says nothing else.
const DEFAULT_TIMEOUT: u64 = 45;

/// How much output of a test is kept, in KiB.
const DEFAULT_OUTPUT: u32 = 4096;

/// All tests, and what the demo and the shell do.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// kselftest's name of the collection.
    pub collection: String,
    /// Modules that every guest loads, in this order, as `"name param=value …"`.
    #[serde(default)]
    pub modules: Vec<String>,
    /// The tests, in order.
    #[serde(default, rename = "test")]
    pub tests: Vec<Test>,
    /// Kernel warnings that several tests provoke; [`Suite::parse()`] hands them out to those.
    #[serde(default, rename = "allow", skip_serializing_if = "Vec::is_empty")]
    allow: Vec<AllowIn>,
    /// Memory that the kernel is known to lose.
    #[serde(default, rename = "leak", skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<Leak>,
    /// What `vmtest demo` does.
    #[serde(default)]
    pub demo: Option<Demo>,
    /// What `vmtest shell` offers.
    #[serde(default)]
    pub shell: Shell,
    /// What the kernel log must come to, by topology; only the runner's own tests say that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kernel_log: BTreeMap<String, Outcome>,
}

/// One test program.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Its name in the results.
    pub name: String,
    /// One line for `vmtest list`.
    #[serde(default)]
    pub description: String,
    /// The program, where it is not called like the test.
    #[serde(default)]
    pub program: Option<String>,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Added to its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Time limit in seconds.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// How much of its output is kept, in KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u32>,
    /// Topologies it runs in, as globs; all by default.
    #[serde(default = "everywhere")]
    pub topologies: Vec<String>,
    /// Only in topologies with remedies.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remedies: bool,
    /// Flavours of the kernel that it is for; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flavours: Vec<String>,
    /// Modules that are loaded for it.
    #[serde(default)]
    pub modules: Vec<String>,
    /// Further programs of the project that it runs.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Programs and files of the root that it needs in the guest.
    #[serde(default)]
    pub files: Vec<String>,
    /// Kernel warnings that it provokes on purpose.
    #[serde(default)]
    pub allow: Vec<Allow>,
    /// Tell its standard error from its standard output; for commands, which are no tests: what
    /// tests say is read in the order in which they said it.
    #[serde(skip)]
    pub separate: bool,
    /// Extra runner conditions, used by the runner's own tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

fn everywhere() -> Vec<String> {
    vec!["*".into()]
}

/// A kernel warning that a test provokes on purpose.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// What it is, for the report.
    pub name: String,
    /// Regular expression that one of the warning's lines matches.
    pub pattern: String,
    /// Another, that one of the lines has to match as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The kernel dies of it, now and then: the test is run again then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fatal: bool,
}

/// An [`Allow`], ready to look for.
pub struct Allowed {
    /// [`Allow::name`].
    pub name: String,
    /// [`Allow::fatal`].
    pub fatal: bool,
    patterns: Vec<Regex>,
}

impl Allowed {
    /// Whether it is what the kernel complains of.
    pub fn is(&self, splat: &Splat) -> bool {
        let has = |pattern: &Regex| splat.lines.iter().any(|line| pattern.is_match(line));
        self.patterns.iter().all(has)
    }
}

/// An [`Allow`] of several tests.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AllowIn {
    /// [`Allow::name`].
    name: String,
    /// [`Allow::pattern`].
    pattern: String,
    /// [`Allow::within`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<String>,
    /// [`Allow::fatal`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fatal: bool,
    /// Tests that provoke it, as globs.
    tests: Vec<String>,
}

/// A defect of the kernel that kmemleak sees.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// Which one, for the report.
    pub name: String,
    /// Regular expression that one line of what kmemleak says of the object matches.
    pub pattern: String,
    /// Tests that provoke it, as globs: where none of them ran, it is a leak like any other.
    pub tests: Vec<String>,
    /// Most objects that they lose: what is beyond that is a leak like any other.
    pub max: usize,
}

/// A [`Leak`] that tests of this run provoke.
#[derive(Debug, Clone)]
pub struct KnownLeak {
    /// [`Leak::name`].
    pub name: String,
    /// [`Leak::pattern`].
    pub pattern: Regex,
    /// [`Leak::max`].
    pub max: usize,
}

/// What the runner must report; only the runner's own tests say that.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// `pass`, `fail` or `skip`.
    pub status: String,
    /// Regular expression that the reason or the diagnostics match.
    #[serde(default)]
    pub says: String,
}

/// What `vmtest demo` does.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Demo {
    /// In which topology.
    pub topology: String,
    /// Files of the root that the commands need.
    #[serde(default)]
    pub files: Vec<String>,
    /// The commands, in order.
    pub commands: Vec<Command>,
}

/// One command of the demo.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// What it shows.
    pub title: String,
    /// Program and arguments.
    pub run: Vec<String>,
    /// Time limit in seconds.
    #[serde(default)]
    pub timeout: Option<u64>,
}

/// What `vmtest shell` offers beside the tests.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// Further programs, from the program directories.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Files of the root.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Suite {
    /// Reads `tests.toml`; the `settings` beside it gives kselftest's default for the time limit.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut suite =
            Self::parse(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let settings = fs::read_to_string(path.with_file_name("settings")).unwrap_or_default();
        let default = kselftest_timeout(&settings).unwrap_or(DEFAULT_TIMEOUT);
        for test in &mut suite.tests {
            test.timeout.get_or_insert(default);
        }
        for command in suite.demo.iter_mut().flat_map(|demo| &mut demo.commands) {
            command.timeout.get_or_insert(default);
        }
        Ok(suite)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut suite: Self = toml::from_str(text)?;
        suite.hand_out()?;
        let mut names = BTreeSet::new();
        for test in &suite.tests {
            let name = &test.name;
            if !names.insert(name) {
                bail!("test \"{name}\" is there twice");
            }
            for topology in &test.topologies {
                Pattern::new(topology)
                    .with_context(|| format!("test \"{name}\": topologies: \"{topology}\""))?;
            }
            test.allowed()?;
        }
        suite.known_leaks(&suite.tests.iter().collect::<Vec<_>>())?;
        Ok(suite)
    }

    /// Gives each test the warnings that it has in common with others.
    fn hand_out(&mut self) -> Result<()> {
        for row in std::mem::take(&mut self.allow) {
            let globs = row
                .tests
                .iter()
                .map(|glob| Pattern::new(glob))
                .collect::<Result<Vec<_>, _>>()
                .with_context(|| format!("allow \"{}\"", row.name))?;
            let mut provoked = false;
            for test in &mut self.tests {
                if globs.iter().any(|glob| glob.matches(&test.name)) {
                    provoked = true;
                    test.allow.push(Allow {
                        name: row.name.clone(),
                        pattern: row.pattern.clone(),
                        within: row.within.clone(),
                        fatal: row.fatal,
                    });
                }
            }
            if !provoked {
                bail!("allow \"{}\": there is no such test", row.name);
            }
        }
        Ok(())
    }

    /// What the kernel is known to lose where `tests` have run.
    pub fn known_leaks(&self, tests: &[&Test]) -> Result<Vec<KnownLeak>> {
        let mut known = Vec::new();
        for leak in &self.leaks {
            let context = || format!("leak \"{}\"", leak.name);
            let regex = Regex::new(&leak.pattern).with_context(context)?;
            let mut provoked = false;
            for glob in &leak.tests {
                let glob = Pattern::new(glob).with_context(context)?;
                provoked |= tests.iter().any(|test| glob.matches(&test.name));
            }
            if provoked {
                known.push(KnownLeak {
                    name: leak.name.clone(),
                    pattern: regex,
                    max: leak.max,
                });
            }
        }
        Ok(known)
    }

    /// Takes away what is tolerated because of known defects of the kernel, for one without them.
    pub fn mend(&mut self, fixed: &[String]) {
        self.leaks.retain(|leak| !fixed.contains(&leak.name));
        for test in &mut self.tests {
            test.allow.retain(|allow| !fixed.contains(&allow.name));
        }
    }

    /// Multiplies all time limits.
    pub fn scale(&mut self, factor: f64) {
        let tests = self.tests.iter_mut().map(|test| &mut test.timeout);
        let demo = self.demo.iter_mut().flat_map(|demo| &mut demo.commands);
        for timeout in tests.chain(demo.map(|command| &mut command.timeout)) {
            *timeout = Some(scaled(timeout.unwrap_or(DEFAULT_TIMEOUT), factor));
        }
    }

    /// The tests for one topology that `globs` select; all of them, if there is no glob.
    pub fn select(&self, topology: &Topology, globs: &[Pattern]) -> Vec<&Test> {
        self.tests
            .iter()
            .filter(|test| test.runs_in(&topology.name))
            .filter(|test| !test.remedies || !topology.remedies.is_empty())
            // What is for one kernel only is there for its own sake, whatever else is run.
            .filter(|test| topology.wants(&test.name) || !test.flavours.is_empty())
            .filter(|test| globs.is_empty() || globs.iter().any(|glob| glob.matches(&test.name)))
            .collect()
    }
}

impl Test {
    /// Name of the program to run.
    pub fn program(&self) -> &str {
        self.program.as_deref().unwrap_or(&self.name)
    }

    /// Whether it runs in this topology.
    pub fn runs_in(&self, topology: &str) -> bool {
        self.topologies
            .iter()
            .any(|glob| Pattern::new(glob).is_ok_and(|glob| glob.matches(topology)))
    }

    /// Whether it is for kernels of this flavour.
    pub fn is_for(&self, flavour: &str) -> bool {
        self.flavours.is_empty() || self.flavours.iter().any(|known| known == flavour)
    }

    /// Time limit in seconds.
    pub fn timeout(&self) -> u64 {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// How much of its output is kept, in bytes.
    pub fn output_limit(&self) -> u64 {
        u64::from(self.output.unwrap_or(DEFAULT_OUTPUT)) << 10
    }

    /// The warnings that it provokes on purpose.
    pub fn allowed(&self) -> Result<Vec<Allowed>> {
        self.allow
            .iter()
            .map(|allow| {
                let patterns = std::iter::once(&allow.pattern).chain(&allow.within);
                Ok(Allowed {
                    name: allow.name.clone(),
                    fatal: allow.fatal,
                    patterns: patterns
                        .map(|pattern| Regex::new(pattern))
                        .collect::<Result<_, _>>()
                        .with_context(|| format!("test \"{}\": allow", self.name))?,
                })
            })
            .collect()
    }
}

/// A time limit in seconds, multiplied.
pub fn scaled(seconds: u64, factor: f64) -> u64 {
    (seconds as f64 * factor).max(1.0) as u64
}

/// The `timeout=` of a kselftest `settings` file.
fn kselftest_timeout(settings: &str) -> Option<u64> {
    settings
        .lines()
        .find_map(|line| line.trim().strip_prefix("timeout="))
        .and_then(|value| value.trim().parse().ok())
        .filter(|&seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
collection = "p2pdma"
modules = ["nvme"]

[[test]]
name = "one"

[[test]]
name = "two"
program = "prog"
topologies = ["switch*"]
timeout = 9
allow = [{ name = "known", pattern = "memremap_pages" }]
"#;

    #[test]
    fn tests_are_selected_by_topology_and_name() {
        let suite = Suite::parse(GOOD).expect("parses");
        let names = |topology: &str, globs: &[&str]| -> Vec<String> {
            let globs: Vec<Pattern> = globs
                .iter()
                .map(|glob| Pattern::new(glob).expect("a glob"))
                .collect();
            let topology = format!(
                "name = \"{topology}\"\ndescription = \"\"\ndevices = []\ntests = {}",
                if topology == "switch-two" {
                    "[\"two\"]"
                } else {
                    "[]"
                }
            );
            let topology = Topology::parse(&topology).expect("parses");
            let selected = suite.select(&topology, &globs);
            selected.iter().map(|test| test.name.clone()).collect()
        };
        assert_eq!(names("switch-iommu", &[]), ["one", "two"]);
        assert_eq!(names("root-ports", &[]), ["one"]);
        assert_eq!(names("switch", &["t*"]), ["two"]);
        assert!(names("switch", &["x"]).is_empty());
        assert_eq!(names("switch-two", &[]), ["two"]);
        assert!(names("switch-two", &["one"]).is_empty());
        assert_eq!(suite.tests[1].program(), "prog");
        assert_eq!(suite.tests[0].program(), "one");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| format!("{:#}", Suite::parse(text).expect_err("is wrong"));
        assert!(error(&GOOD.replace("\"two\"", "\"one\"")).contains("twice"));
        let message = error(&GOOD.replace("memremap_pages", "("));
        assert!(message.contains("test \"two\": allow"), "{message}");
        let message = error(&GOOD.replace("pages\" }", "pages\", within = \"(\" }"));
        assert!(message.contains("test \"two\": allow"), "{message}");
        let leak = |max: &str| {
            format!("{GOOD}[[leak]]\nname = \"l\"\npattern = \"p\"\ntests = [\"t*\"]\n{max}")
        };
        let known = Suite::parse(&leak("max = 3")).expect("parses");
        let known = known.known_leaks(&known.tests.iter().collect::<Vec<_>>());
        assert_eq!(known.expect("known")[0].max, 3);
        assert!(error(&leak("")).contains("max"));
        let message = error(&GOOD.replace("timeout", "timeot"));
        assert!(message.contains("line 12"), "{message}");
    }

    #[test]
    fn what_several_tests_provoke_is_allowed_in_each() {
        let row = |tests: &str| {
            format!("{GOOD}[[allow]]\nname = \"a\"\npattern = \"p\"\nwithin = \"w\"\n{tests}")
        };
        let names = |suite: &Suite| -> Vec<Vec<String>> {
            let allowed = |test: &Test| test.allowed().expect("patterns");
            let names = suite.tests.iter().map(allowed);
            names
                .map(|rows| rows.into_iter().map(|row| row.name).collect())
                .collect()
        };
        let mut suite = Suite::parse(&row("tests = [\"o*\", \"two\"]")).expect("parses");
        assert_eq!(names(&suite), [vec!["a"], vec!["known", "a"]]);
        assert_eq!(
            suite.tests[0].allowed().expect("patterns")[0]
                .patterns
                .len(),
            2
        );
        suite.mend(&["a".into()]);
        assert_eq!(names(&suite), [vec![], vec!["known"]]);
        let suite = Suite::parse(&row("tests = [\"two\"]")).expect("parses");
        assert_eq!(names(&suite), [vec![], vec!["known", "a"]]);
        let error = |text: &str| format!("{:#}", Suite::parse(text).expect_err("is wrong"));
        assert!(error(&row("")).contains("tests"));
        assert!(error(&row("tests = [\"[\"]")).contains("allow \"a\""));
        assert!(error(&row("tests = [\"three\"]")).contains("no such test"));
        let message = error(&row("tests = [\"one\"]").replace("\"w\"", "\"(\""));
        assert!(message.contains("test \"one\": allow"), "{message}");
    }

    #[test]
    fn the_default_time_limit_is_kselftests() {
        assert_eq!(kselftest_timeout("# a comment\ntimeout=90\n"), Some(90));
        assert_eq!(kselftest_timeout("timeout=0"), None);
        assert_eq!(kselftest_timeout(""), None);
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("tests.toml");
        fs::write(&path, GOOD).expect("write");
        let timeouts = || {
            let suite = Suite::read(&path).expect("reads");
            suite.tests.iter().map(Test::timeout).collect::<Vec<_>>()
        };
        assert_eq!(timeouts(), [45, 9]);
        fs::write(directory.path().join("settings"), "timeout=90\n").expect("write");
        assert_eq!(timeouts(), [90, 9]);
        let mut suite = Suite::read(&path).expect("reads");
        suite.scale(0.05);
        assert_eq!(suite.tests[0].timeout(), 4);
        assert_eq!(suite.tests[1].timeout(), 1);
    }

    #[test]
    fn the_demo_is_scaled_as_well() {
        let text = "[demo]\ntopology = \"t\"\ncommands = [\n\
                    { title = \"a\", run = [\"a\"], timeout = 3 },\n\
                    { title = \"b\", run = [\"b\"] },\n]\n";
        let mut suite = Suite::parse(&format!("{GOOD}{text}")).expect("parses");
        suite.scale(2.5);
        let commands = suite.demo.expect("a demo").commands;
        let limits = commands.iter().map(|command| command.timeout);
        assert_eq!(limits.collect::<Vec<_>>(), [Some(7), Some(112)]);
    }

    #[test]
    fn limits_stay_limits() {
        assert_eq!(scaled(300, 10.0), 3000);
        assert_eq!(scaled(1, 0.1), 1);
    }

    #[test]
    fn the_projects_own_suite_is_right() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../testing/selftests/p2pdma/tests.toml");
        let suite = Suite::read(&path).expect("reads");
        assert!(!suite.tests.is_empty());
        assert!(suite.tests.iter().all(|test| test.outcome.is_none()));
        // A place that is not there is a mistake.
        let topologies = crate::topology::read_all(&path.with_file_name("topologies"));
        let topologies = topologies.expect("reads");
        for test in &suite.tests {
            for glob in &test.topologies {
                let glob = Pattern::new(glob).expect("a glob");
                let names: Vec<_> = topologies
                    .keys()
                    .filter(|name| glob.matches(name))
                    .collect();
                assert!(!names.is_empty(), "{}: {glob}", test.name);
            }
            // One that is named has to agree, as far as it is asked: see `select()`.
            for name in test.topologies.iter().filter(|_| test.flavours.is_empty()) {
                let shut = topologies
                    .get(name)
                    .is_some_and(|topology| !topology.wants(&test.name));
                assert!(!shut, "{name} does not have {} in its list", test.name);
            }
        }
        // And so is a test of which there is none.
        for topology in topologies.values() {
            for glob in &topology.tests {
                let pattern = Pattern::new(glob).expect("a glob");
                let mut runs = suite
                    .tests
                    .iter()
                    .filter(|test| test.runs_in(&topology.name));
                assert!(
                    runs.any(|test| pattern.matches(&test.name)),
                    "{}: {glob}",
                    topology.name
                );
            }
        }
        // Remedies are compared with what is printed, wherever there are any.
        for arch in p2pdma_common::Arch::ALL {
            for topology in crate::topology::on(&topologies, arch).values() {
                let tests = suite.select(topology, &[]);
                let compares = tests.iter().any(|test| test.name == "p2pdma_predict_boot");
                let has_any = !topology.remedies.is_empty();
                assert_eq!(compares, has_any, "{} on {arch}", topology.name);
            }
        }
        crate::schedule::Costs::read(path.parent().expect("a directory")).expect("reads");
    }
}
