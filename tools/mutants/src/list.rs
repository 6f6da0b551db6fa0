// SPDX-License-Identifier: GPL-2.0

//! All mutants of a kernel's source: derived, compiled on trial, and written as a patch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use p2pdma_common::Manifest;
use regex::Regex;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::derive::{functions, mutated, names, Function, Operator};
use crate::weave::{weave, Numbered, Woven};

/// How often what does not compile is left out, before something else must be wrong.
const ROUNDS: usize = 6;

/// The first lines of a file on trial, which is compiled like a module, and is going to be a part
/// of the kernel.
const PROLOGUE: &str =
    "#undef MODULE\n#ifndef KBUILD_MODFILE\n#define KBUILD_MODFILE KBUILD_MODNAME\n#endif\n";

/// What the compiler says of functions that follow on one whose braces do not match any more.
const CONSEQUENCE: &str = "function definition is not allowed here";

/// What is changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Targets {
    file: Vec<Target>,
}

/// A file of the kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    path: PathBuf,
    /// Its functions that are changed; all of them, if none is named.
    #[serde(default)]
    functions: Vec<String>,
    /// Only what stands on lines that one of these regular expressions matches.
    #[serde(default)]
    lines: Vec<String>,
    /// Mutants that do not compile, and whose errors the compiler shows elsewhere.
    #[serde(default)]
    broken: Vec<String>,
}

/// A mutant.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Mutant {
    /// What the kernel's parameter has to be. Numbers change with the source, names do not.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The line of the change in the original, counted from one.
    pub line: usize,
    /// What kind of change it is.
    pub operator: Operator,
    /// The change, as a unified diff without a header.
    pub diff: String,
    /// What the compiler says, if it does not compile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A file with its functions, and the numbers of their mutants.
struct File<'a> {
    path: &'a Path,
    source: String,
    functions: Vec<Function>,
    /// By function and change.
    numbers: Vec<Vec<Option<u32>>>,
}

impl File<'_> {
    /// The source with all mutants but those in `without`.
    fn weave(&self, without: &BTreeMap<u32, String>, define: bool) -> Woven {
        let mutants: Vec<(&Function, Vec<Numbered<'_>>)> = self
            .functions
            .iter()
            .zip(&self.numbers)
            .map(|(function, numbers)| {
                let changes = function.changes.iter().zip(numbers);
                let changes = changes.filter_map(|(change, number)| Some(((*number)?, change)));
                (
                    function,
                    changes
                        .filter(|(number, _)| !without.contains_key(number))
                        .collect(),
                )
            })
            .collect();
        weave(&self.source, &mutants, define)
    }

    /// What it is called where all files lie beside each other.
    fn stem(&self) -> String {
        self.path
            .with_extension("")
            .to_string_lossy()
            .replace(['/', '-'], "_")
    }
}

/// Derives all mutants of `targets`, leaves out of the patch what does not compile, and gives the
/// list of all and the patch.
pub fn derive(targets: &Targets, kernel: &Manifest, work: &Path) -> Result<(Vec<Mutant>, String)> {
    let mut mutants = Vec::new();
    let mut files = Vec::new();
    for target in &targets.file {
        files.push(read(target, &kernel.source, &mut mutants)?);
    }
    let mut errors = BTreeMap::new();
    for name in targets.file.iter().flat_map(|target| &target.broken) {
        let Some(mutant) = mutants.iter().find(|mutant| mutant.name == *name) else {
            bail!("there is no mutant called \"{name}\"");
        };
        errors.insert(mutant.number, "an assertion at compile time".to_owned());
    }
    for round in 0.. {
        let woven: Vec<(String, Woven)> = files
            .iter()
            .enumerate()
            .map(|(index, file)| (file.stem(), file.weave(&errors, index == 0)))
            .collect();
        let dirs: Vec<PathBuf> = files
            .iter()
            .filter_map(|file| Some(kernel.source.join(file.path.parent()?)))
            .collect();
        eprintln!(
            "mutants: compiling {} mutants on trial",
            mutants.len() - errors.len()
        );
        let found = compile(&woven, &dirs, kernel, work)?;
        if found.is_empty() {
            break;
        }
        if round == ROUNDS {
            bail!("after {ROUNDS} rounds, there still are mutants that do not compile");
        }
        errors.extend(found);
    }
    let mut patch = String::new();
    for (index, file) in files.iter().enumerate() {
        let woven = file.weave(&errors, index == 0);
        let path = file.path.display();
        patch += &TextDiff::from_lines(&file.source, &woven.text)
            .unified_diff()
            .header(&format!("a/{path}"), &format!("b/{path}"))
            .to_string();
    }
    for mutant in &mut mutants {
        mutant.error = errors.remove(&mutant.number);
    }
    Ok((mutants, patch))
}

/// Reads a file, and adds its mutants to the list.
fn read<'a>(target: &'a Target, kernel: &Path, mutants: &mut Vec<Mutant>) -> Result<File<'a>> {
    let path = kernel.join(&target.path);
    let source =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut functions = functions(&source)?;
    let known: BTreeSet<&str> = functions.iter().map(|function| &*function.name).collect();
    let unknown = target
        .functions
        .iter()
        .filter(|name| !known.contains(name.as_str()));
    let unknown: Vec<&str> = unknown.map(String::as_str).collect();
    if !unknown.is_empty() {
        bail!("{} has no function {}", path.display(), unknown.join(", "));
    }
    functions.retain(|function| {
        target.functions.is_empty() || target.functions.contains(&function.name)
    });
    let patterns = target
        .lines
        .iter()
        .map(|pattern| Regex::new(pattern).with_context(|| pattern.clone()))
        .collect::<Result<Vec<_>>>()?;
    let wanted = |start: usize, end: usize| {
        let start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let end = source[end..].find('\n').map_or(source.len(), |at| end + at);
        patterns.is_empty()
            || patterns
                .iter()
                .any(|pattern| pattern.is_match(&source[start..end]))
    };
    let mut numbers = Vec::new();
    for function in &functions {
        let mut of_function = Vec::new();
        for (change, name) in function.changes.iter().zip(names(&source, function)) {
            if !wanted(change.range.start, change.range.end) {
                of_function.push(None);
                continue;
            }
            let number = u32::try_from(mutants.len())? + 1;
            of_function.push(Some(number));
            let whole = mutated(&source, &(0..source.len()), change);
            let diff = TextDiff::from_lines(&*source, &whole);
            mutants.push(Mutant {
                number,
                name,
                file: target.path.clone(),
                line: source[..change.range.start].matches('\n').count() + 1,
                operator: change.operator,
                diff: diff.unified_diff().context_radius(2).to_string(),
                error: None,
            });
        }
        numbers.push(of_function);
    }
    Ok(File {
        path: &target.path,
        source,
        functions,
        numbers,
    })
}

/// Compiles sources as modules of `kernel`, and tells which mutants have errors.
fn compile(
    sources: &[(String, Woven)],
    dirs: &[PathBuf],
    kernel: &Manifest,
    work: &Path,
) -> Result<BTreeMap<u32, String>> {
    fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let put = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut rules = String::new();
    for ((stem, woven), dir) in sources.iter().zip(dirs) {
        put(&format!("{stem}.c"), &format!("{PROLOGUE}{}", woven.text))?;
        rules += &format!(
            "obj-m += {stem}.o\nCFLAGS_{stem}.o := -ferror-limit=0 -I{}\n",
            dir.display()
        );
    }
    put("Kbuild", &rules)?;
    let output = Command::new("make")
        .args(["--silent", "--keep-going", "-C"])
        .arg(&kernel.build)
        .args(
            kernel
                .make
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        )
        .arg(format!("M={}", work.display()))
        .args(sources.iter().map(|(stem, _)| format!("{stem}.o")))
        .env_remove("MAKEFLAGS")
        .output()
        .context("cannot run make")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = Regex::new(r"(\w+)\.c:(\d+):\d+: (?:fatal )?error: (.*)$")?;
    let before = PROLOGUE.matches('\n').count();
    let mut errors = BTreeMap::new();
    let mut others = Vec::new();
    // Files with functions that the compiler no longer takes for such.
    let mut lost = BTreeSet::new();
    for text in said.lines().filter(|text| text.contains("error: ")) {
        let found = line.captures(text).and_then(|found| {
            let (stem, woven) = sources.iter().find(|(stem, _)| *stem == found[1])?;
            let line = found[2].parse::<usize>().ok()?.checked_sub(before)?;
            Some((stem, woven.mutant_at(line)?, found[3].to_owned()))
        });
        match found {
            Some((stem, _, error)) if error == CONSEQUENCE => {
                lost.insert(stem);
            }
            // It may be a consequence, too: the next round will tell.
            Some((stem, ..)) if lost.contains(stem) => (),
            Some((_, number, error)) => {
                errors.entry(number).or_insert(error);
            }
            None => others.push(text),
        }
    }
    if errors.is_empty() && (!others.is_empty() || !output.status.success()) {
        let said = if others.is_empty() {
            said.lines().collect()
        } else {
            others
        };
        bail!(
            "the sources do not compile, and it is no mutant's fault:\n{}",
            said.join("\n")
        );
    }
    Ok(errors)
}
