// SPDX-License-Identifier: GPL-2.0

//! What can be said of a series before anybody reads it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context, Result};
use p2pdma_common::Manifest;
use regex::Regex;

use crate::mail::mails;
use crate::plan::{changed_files, Series};
use crate::tree::{run, Tree};

/// The mails apply to what the kernel has, one after the other, and give what was committed.
pub fn applies(tree: &Tree<'_>, series: &Series, dir: &Path) -> Result<()> {
    let applied = format!("applied-{}", series.name);
    tree.git(&["checkout", "--quiet", "-B", &applied, &series.base()])?;
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
        // It ends with 1 if it has found something.
        ensure!(
            output.status.code() == Some(i32::from(!found.is_empty())),
            "checkpatch.pl did not do its work for {}: {}",
            mail.display(),
            String::from_utf8_lossy(&output.stderr)
        );
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

/// A kernel tree that is prepared for modules: each patch is built in a copy of it.
struct Build {
    /// What the kernel is called.
    name: String,
    /// Where objects are.
    objects: PathBuf,
    /// What make is told.
    make: Vec<String>,
}

impl Build {
    /// Whether the kernel's configuration has what a goal makes: an object may depend on an option,
    /// in the Makefile beside it.
    fn has(&self, tree: &Path, goal: &Goal) -> Result<bool> {
        let Goal::Object(object) = goal else {
            return Ok(true);
        };
        let object = Path::new(object);
        let makefile = tree.join(object.with_file_name("Makefile"));
        let name = object.file_name().unwrap_or_default().to_string_lossy();
        let config = self.objects.join(".config");
        let read = |file: &Path| {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
        };
        let config = read(&config)?;
        Ok(option_of(&read(&makefile)?, &name)?.is_none_or(|option| is_set(&config, &option)))
    }
}

/// The option that an object depends on in a Makefile, if there is one.
fn option_of(makefile: &str, object: &str) -> Result<Option<String>> {
    let object = regex::escape(object);
    let line = Regex::new(&format!(
        r"(?m)^[\w-]+-\$\((CONFIG_\w+)\)\s*\+?=(?:.*\s)?{object}(?:\s|$)"
    ))?;
    Ok(line.captures(makefile).map(|found| found[1].to_owned()))
}

/// Whether a `.config` says `y` or `m` of an option.
fn is_set(config: &str, option: &str) -> bool {
    config
        .lines()
        .filter_map(|line| line.split_once('='))
        .any(|(name, value)| name == option && matches!(value, "y" | "m"))
}

/// A whole kernel tree that the series are put on, patch by patch.
pub struct WholeTree<'a> {
    kernel: &'a Path,
    dir: &'a Path,
    builds: Vec<Build>,
}

impl<'a> WholeTree<'a> {
    /// A copy of `kernel` in `dir`, and one of the build tree of each of `prepared`, beside it.
    pub fn create(kernel: &'a Path, dir: &'a Path, prepared: &[PathBuf]) -> Result<Self> {
        copy(kernel, dir)?;
        let builds = prepared
            .iter()
            .map(|file| {
                let text = std::fs::read(file)
                    .with_context(|| format!("cannot read {}", file.display()))?;
                let of: Manifest = serde_json::from_slice(&text)
                    .with_context(|| format!("in {}", file.display()))?;
                let objects = dir.with_extension(&of.flavour);
                copy(&of.build, &objects)?;
                Ok(Build {
                    name: of.flavour,
                    objects,
                    make: of.make.iter().map(|(k, v)| format!("{k}={v}")).collect(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            kernel,
            dir,
            builds,
        })
    }

    /// Puts the patches of `series` on top, and if `builds`, builds what each of them changes.
    /// Gives the number of builds.
    pub fn add(&self, tree: &Tree<'_>, series: &Series, builds: bool) -> Result<usize> {
        let mut built = 0;
        for (patch, diff) in series.plan.patch.iter().zip(tree.diffs(series)?) {
            run(
                Command::new("patch")
                    .args(["-p1", "--fuzz=0", "--silent", "--no-backup-if-mismatch"])
                    .current_dir(self.dir),
                Some(&diff),
            )
            .with_context(|| format!("{}, on top of those before it", series.name))?;
            let options = new_options(&diff)?;
            if !options.is_empty() {
                for build in &self.builds {
                    self.configure(build, &options)?;
                }
                self.are_on(&options)
                    .with_context(|| format!("{}: {}", series.name, patch.label()))?;
            }
            if !builds {
                continue;
            }
            for goal in self.goals(&changed_files(&diff))? {
                let mut kernels = 0;
                for build in &self.builds {
                    if !build.has(self.dir, &goal)? {
                        eprintln!("series: {}: {goal:?} is no part of it", build.name);
                        continue;
                    }
                    self.make(build, &goal).with_context(|| {
                        format!("{}: {}: does not build", series.name, patch.label())
                    })?;
                    kernels += 1;
                }
                ensure!(
                    kernels > 0 || self.builds.is_empty(),
                    "{}: {}: no kernel has {goal:?}",
                    series.name,
                    patch.label()
                );
                built += kernels;
            }
        }
        Ok(built)
    }

    /// Each option is on in one of the kernels at least: else what it is for was never built.
    fn are_on(&self, options: &BTreeSet<String>) -> Result<()> {
        let configs = self
            .builds
            .iter()
            .map(|build| std::fs::read_to_string(build.objects.join(".config")))
            .collect::<Result<Vec<_>, _>>()?;
        for option in options {
            ensure!(
                configs.is_empty()
                    || configs
                        .iter()
                        .any(|config| is_set(config, &format!("CONFIG_{option}"))),
                "no kernel can have the option {option} on"
            );
        }
        Ok(())
    }

    /// Switches options on, and KUnit, which those of suites depend on, as far as the kernel's
    /// other ones allow it.
    fn configure(&self, build: &Build, options: &BTreeSet<String>) -> Result<()> {
        eprintln!("series: {}: options {options:?}", build.name);
        let mut config = Command::new(self.dir.join("scripts/config"));
        config.arg("--file").arg(build.objects.join(".config"));
        for option in ["KUNIT", "RUST_KUNIT_TESTS"]
            .into_iter()
            .chain(options.iter().map(String::as_str))
        {
            config.args(["--enable", option]);
        }
        run(&mut config, None)?;
        run(
            Command::new("make")
                .arg("-C")
                .arg(self.dir)
                .arg(format!("O={}", build.objects.display()))
                .args(&build.make)
                .arg("olddefconfig")
                .env_remove("MAKEFLAGS"),
            None,
        )?;
        Ok(())
    }

    fn make(&self, build: &Build, goal: &Goal) -> Result<()> {
        let objects = build.objects.display();
        let goal = goal.arguments(self.dir, &build.objects);
        eprintln!("series: {}: make {}", build.name, goal.join(" "));
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let output = run(
            Command::new("make")
                .arg("-C")
                .arg(self.dir)
                .arg(format!("-j{jobs}"))
                .arg(format!("O={objects}"))
                .args(&build.make)
                .args(["KCFLAGS=-Werror", "KRUSTFLAGS=-Dwarnings"])
                .args(&goal)
                .env_remove("MAKEFLAGS"),
            None,
        )?;
        // A make that finds nothing to do proves nothing.
        let compiled = Regex::new(r"(?m)^ +(CC|RUSTC|BINDGEN)\b")?;
        ensure!(
            compiled.is_match(&output),
            "make {} compiles nothing in {objects}",
            goal.join(" ")
        );
        Ok(())
    }

    /// What is built for files that have changed.
    fn goals(&self, changed: &BTreeSet<String>) -> Result<Vec<Goal>> {
        let mut goals = BTreeSet::new();
        let sources = changed
            .iter()
            .filter(|file| !file.starts_with("Documentation/"))
            .filter(|file| [".c", ".h", ".rs"].iter().any(|kind| file.ends_with(kind)));
        for file in sources {
            if let Some(file) = file.strip_prefix("tools/") {
                let name = file
                    .strip_prefix("testing/selftests/")
                    .and_then(|file| file.split_once('/'))
                    .with_context(|| format!("nothing builds tools/{file}"))?
                    .0;
                goals.insert(Goal::Selftests(name.to_owned()));
                continue;
            }
            // Headers there are what the bindings are made of.
            if file.starts_with("rust/") {
                goals.insert(Goal::Prepare);
                continue;
            }
            if file.ends_with(".h") {
                continue;
            }
            let folder = Path::new(file)
                .ancestors()
                .skip(1)
                .find(|dir| self.dir.join(dir).join("Makefile").exists())
                .with_context(|| format!("nothing builds {file}"))?;
            // A folder of its own is built as an external module is, since the kernel was prepared
            // without it.
            if self.kernel.join(folder).exists() {
                let object = Path::new(file).with_extension("o");
                goals.insert(Goal::Object(object.display().to_string()));
            } else {
                let makefile = self.dir.join(folder).join("Makefile");
                let text = std::fs::read_to_string(&makefile)
                    .with_context(|| format!("cannot read {}", makefile.display()))?;
                goals.insert(Goal::Folder(folder.to_owned(), options(&text)?));
            }
        }
        Ok(goals.into_iter().collect())
    }
}

/// What make is told to build, in the order in which that is possible.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Goal {
    /// All of `rust/`.
    Prepare,
    /// The object of a file.
    Object(String),
    /// The modules of a folder, and the options that they are made for.
    Folder(PathBuf, BTreeSet<String>),
    /// The programs of a collection of kselftests.
    Selftests(String),
}

impl Goal {
    fn arguments(&self, tree: &Path, objects: &Path) -> Vec<String> {
        match self {
            Self::Prepare => vec!["prepare".into()],
            Self::Object(object) => vec![object.clone()],
            Self::Selftests(name) => vec![
                format!("TARGETS={name}"),
                "SKIP_TARGETS=".into(),
                "kselftest-all".into(),
            ],
            Self::Folder(dir, options) => {
                let mut arguments = vec![
                    format!("M={}", tree.join(dir).display()),
                    format!("MO={}", objects.join(dir).display()),
                    // What a series before it exports, the kernel that was prepared has not.
                    "KBUILD_MODPOST_WARN=1".into(),
                ];
                arguments.extend(options.iter().map(|option| format!("{option}=m")));
                arguments.push("modules".into());
                arguments
            }
        }
    }
}

/// The options that a diff adds and that are no modules: what they switch on, other files may need
/// before anything is built.
fn new_options(diff: &str) -> Result<BTreeSet<String>> {
    names(diff, r"(?m)^\+config (\w+)\n\+\s+bool\b")
}

/// The options that a Makefile makes something for.
fn options(makefile: &str) -> Result<BTreeSet<String>> {
    names(makefile, r"(?m)^obj-\$\((CONFIG_\w+)\)")
}

/// What the group of a pattern is, wherever that matches.
fn names(text: &str, pattern: &str) -> Result<BTreeSet<String>> {
    let pattern = Regex::new(pattern)?;
    let found = pattern.captures_iter(text);
    Ok(found.map(|found| found[1].to_owned()).collect())
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
    fn objects_that_depend_on_options() {
        let makefile = "obj-$(CONFIG_NVME_TARGET)\t+= nvmet.o\nnvmet-y += core.o configfs.o\n\
            nvmet-$(CONFIG_BLK_DEV_ZONED)\t\t+= zns.o auth.o\n";
        let option = |object: &str| option_of(makefile, object).expect("as in the test");
        assert_eq!(option("core.o"), None);
        assert_eq!(option("zns.o").as_deref(), Some("CONFIG_BLK_DEV_ZONED"));
        assert_eq!(option("auth.o").as_deref(), Some("CONFIG_BLK_DEV_ZONED"));
        assert_eq!(option("s.o"), None);
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_D=3\n";
        let set = ["A", "B", "C", "D"].map(|name| is_set(config, &format!("CONFIG_{name}")));
        assert_eq!(set, [true, false, true, false]);
    }

    #[test]
    fn options_that_no_kernel_has() {
        let dir = tempfile::tempdir().expect("as in the test");
        let build = |name: &str, config: &str| {
            let objects = dir.path().join(name);
            std::fs::create_dir(&objects).expect("as in the test");
            std::fs::write(objects.join(".config"), config).expect("as in the test");
            Build {
                name: name.to_owned(),
                objects,
                make: Vec::new(),
            }
        };
        let whole = WholeTree {
            kernel: dir.path(),
            dir: dir.path(),
            builds: vec![
                build("a", "CONFIG_A=y\n# CONFIG_B is not set\n"),
                build("b", "# CONFIG_A is not set\n"),
            ],
        };
        let on = |option: &str| whole.are_on(&BTreeSet::from([option.to_owned()]));
        assert!(on("A").is_ok());
        assert!(on("B").is_err());
        assert!(on("C").is_err());
    }

    #[test]
    fn options_of_a_diff() {
        let diff =
            "+config A\n+\tbool \"a\"\n+\n+config B\n+\ttristate \"b\"\n config C\n+\tbool\n";
        assert_eq!(
            new_options(diff).expect("as in the test"),
            BTreeSet::from(["A".to_owned()])
        );
    }

    #[test]
    fn goals() {
        let dir = tempfile::tempdir().expect("as in the test");
        let (kernel, tree) = (dir.path().join("kernel"), dir.path().join("tree"));
        for folder in ["drivers/pci", "drivers/pci/new/deep"] {
            std::fs::create_dir_all(tree.join(folder)).expect("as in the test");
        }
        std::fs::create_dir_all(kernel.join("drivers/pci")).expect("as in the test");
        let makefile = "obj-$(CONFIG_NEW) += new.o\nobj-$(CONFIG_OLD) += old.o\nx := y\n";
        for folder in ["drivers/pci", "drivers/pci/new"] {
            std::fs::write(tree.join(folder).join("Makefile"), makefile).expect("as in the test");
        }
        let whole = WholeTree {
            kernel: &kernel,
            dir: &tree,
            builds: Vec::new(),
        };
        let goals = |files: &[&str]| {
            let files = files.iter().map(|&file| file.to_owned()).collect();
            whole.goals(&files).expect("as in the test")
        };
        assert_eq!(
            goals(&[
                "drivers/pci/p2pdma.c",
                "rust/helpers/p2pdma.c",
                "drivers/pci/pci.h"
            ]),
            [Goal::Prepare, Goal::Object("drivers/pci/p2pdma.o".into())]
        );
        let new = goals(&["drivers/pci/new/new.rs", "drivers/pci/new/deep/part.rs"]);
        let options = BTreeSet::from(["CONFIG_NEW".to_owned(), "CONFIG_OLD".to_owned()]);
        assert_eq!(new, [Goal::Folder("drivers/pci/new".into(), options)]);
        let arguments = new[0].arguments(&tree, &kernel);
        assert!(arguments.contains(&"CONFIG_OLD=m".to_owned()));
        assert_eq!(
            goals(&["tools/testing/selftests/p2pdma/p2pdma_pool.c"]),
            [Goal::Selftests("p2pdma".into())]
        );
        assert!(whole
            .goals(&BTreeSet::from(["tools/x.c".to_owned()]))
            .is_err());
        assert_eq!(goals(&["rust/bindings/bindings_helper.h"]), [Goal::Prepare]);
        assert!(whole.goals(&BTreeSet::from(["fs/x.c".to_owned()])).is_err());
    }
}
