// SPDX-License-Identifier: GPL-2.0

//! Reports which lines and branches of the kernel's P2PDMA code the tests have run, from the
//! results of `vmtest run` on a kernel that counts.

#![forbid(unsafe_code)]

mod counters;
mod report;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{bail, Context, Result};
use clap::Parser;
use p2pdma_common::Manifest;
use serde::Deserialize;

use report::{Merged, Reasons, Report, Targets};

const EXAMPLES: &str = "\
Examples:
  make coverage                               run the tests, and report
  p2pdma-coverage -k build/kernel/coverage/kernel.json build/results/7.3.4-coverage

Exit status: 0 each line of drivers/pci/p2pdma.c was run, with all its branches, or has a reason not
to be; 1 not so; 2 could not run.";

/// Reports which lines and branches of the kernel's P2PDMA code the tests have run.
#[derive(Parser)]
#[command(name = "p2pdma-coverage", version, after_help = EXAMPLES)]
struct Cli {
    /// The kernel that counted: its kernel.json
    #[arg(short, long, value_name = "PATH")]
    kernel: PathBuf,
    /// Where the report goes, as html/index.html, report.txt and report.json
    #[arg(short, long, value_name = "DIR", default_value = "build/coverage")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The results of vmtest
    results: PathBuf,
}

/// As the mutants have them: the files and functions that P2PDMA is in.
#[derive(Deserialize)]
struct TargetFiles {
    file: Vec<TargetFile>,
}

#[derive(Deserialize)]
struct TargetFile {
    path: String,
    #[serde(default)]
    functions: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("coverage: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn gcovr(kernel: &Manifest) -> Command {
    let mut command = Command::new("gcovr");
    // Names that begin with two underscores are functions like others in a kernel.
    command.args(["--gcov-executable", "llvm-cov gcov"]);
    command.args(["--include-internal-functions", "--root"]);
    command.arg(&kernel.source);
    command
}

fn execute(command: &mut Command) -> Result<()> {
    let output = command.output().context(
        "cannot run gcovr; it is in the package set coverage: tools/testbed/enter --with coverage",
    )?;
    if !output.status.success() {
        bail!(
            "gcovr failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// A regular expression that matches this text. Where it is no absolute path, gcovr takes it as
/// relative to the directory that it is run in.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for char in text.chars() {
        if !char.is_ascii_alphanumeric() && !matches!(char, '/' | '_' | '-') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// The results of topologies that have counters, by name.
fn topologies(results: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(results).with_context(|| {
        format!(
            "cannot read {}; `make coverage` runs the tests",
            results.display()
        )
    })?;
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ktap")
        {
            let name = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

fn run(cli: &Cli) -> Result<bool> {
    let kernel: Manifest = serde_json::from_str(&read(&cli.kernel)?)
        .with_context(|| cli.kernel.display().to_string())?;
    let data = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets: TargetFiles = toml::from_str(&read(&data.join("../mutants/data/targets.toml"))?)?;
    let targets: Targets = targets
        .file
        .into_iter()
        .map(|file| (file.path, file.functions))
        .collect();
    let reasons: Reasons = toml::from_str(&read(&data.join("data/unreached.toml"))?)?;

    let counted = cli.out.join("counters");
    if counted.exists() {
        fs::remove_dir_all(&counted)?;
    }
    let mut merge = gcovr(&kernel);
    let mut without = Vec::new();
    let mut with = 0;
    for (name, path) in topologies(&cli.results)? {
        let counters = counters::read(&read(&path)?).with_context(|| name.clone())?;
        if counters.is_empty() {
            without.push(name);
            continue;
        }
        eprintln!("coverage: {name}");
        let dir = counted.join(&name);
        counters::put(&counters, &kernel.build, &dir)?;
        let tracefile = counted.join(format!("{name}.json"));
        execute(gcovr(&kernel).arg("--json").arg(&tracefile).arg(&dir))?;
        merge.arg("--add-tracefile").arg(&tracefile);
        with += 1;
    }
    if with == 0 {
        bail!("there are no counters in {}", cli.results.display());
    }
    let (html, merged) = (cli.out.join("html"), cli.out.join("merged.json"));
    fs::create_dir_all(&html)?;
    merge.arg("--html-details").arg(html.join("index.html"));
    for path in targets.keys() {
        let path = kernel.source.join(path);
        merge
            .arg("--filter")
            .arg(format!("{}$", escaped(&path.to_string_lossy())));
    }
    execute(merge.arg("--json").arg(&merged))?;
    let merged: Merged = serde_json::from_str(&read(&merged)?).context("what gcovr has written")?;
    let source = |path: &str| read(&kernel.source.join(path));
    let report = Report::new(&merged, &targets, &reasons, source)?;
    let json = serde_json::to_string_pretty(&report)?;
    let mut text = format!(
        "Merged over {with} topologies of kernel {}.\n\n",
        kernel.release
    );
    for name in &without {
        text += &format!("No counters of {name}: its guest was lost.\n");
    }
    text += &report.text();
    fs::write(cli.out.join("report.json"), &json)?;
    fs::write(cli.out.join("report.txt"), &text)?;
    let printed = if cli.json { &json } else { &text };
    writeln!(std::io::stdout(), "{}", printed.trim_end())?;
    eprintln!(
        "coverage: {} shows each line",
        html.join("index.html").display()
    );
    Ok(report.is_good())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_expressions() {
        assert_eq!(escaped("/k-7.3+a/p_2.c"), r"/k-7\.3\+a/p_2\.c");
    }
}
