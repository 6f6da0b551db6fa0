// SPDX-License-Identifier: GPL-2.0

//! Writes the patch series for the kernel's mailing lists, and checks them.

mod check;
mod mail;
mod plan;
mod rust;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::check::WholeTree;
use crate::mail::Written;
use crate::plan::Series;
use crate::tree::{Sender, Sources, Tree};

const EXAMPLES: &str = "\
Examples:
  p2pdma-series write --kernel ~/linux --out build/series
  p2pdma-series check --kernel ~/linux --out build/series --tree build/series/linux
  p2pdma-series check --kernel ~/linux --out build/series --tree build/series/linux \
      --build build/kernel/stock/kernel.json
  git am build/series/10-pci-p2pdma/000[1-9]*.patch

Exit status: 0 if all is well, 1 if something was found, 2 if it could not be done.";

/// Writes the patch series for the kernel's mailing lists, and checks them.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Write the mails: a folder for each series, its cover letter first; and `in-tree.patch`, all
    /// that does not fix a defect in one piece.
    Write(Common),
    /// Write the mails, apply them as a maintainer would, and look at their style.
    Check {
        #[command(flatten)]
        common: Common,
        /// Also make a whole kernel tree there, with all series on top of it.
        #[arg(long, value_name = "DIR")]
        tree: Option<PathBuf>,
        /// Build what each patch changes for the kernel that this file describes, in a copy of its
        /// build tree (`DIR` with the flavour after its name); may be repeated.
        #[arg(long, value_name = "kernel.json", requires = "tree")]
        build: Vec<PathBuf>,
        /// Build the patches of this series only; may be repeated.
        #[arg(long, value_name = "SERIES", requires = "build")]
        only: Vec<String>,
    },
}

#[derive(Args)]
struct Common {
    /// The kernel's source.
    #[arg(long, value_name = "DIR")]
    kernel: PathBuf,
    /// The checkout of this project.
    #[arg(long, value_name = "DIR", default_value = ".")]
    project: PathBuf,
    /// Where the mails go; what is there is replaced.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Who sends them, and signs them off.
    #[arg(
        long,
        value_name = "NAME <ADDRESS>",
        env = "P2PDMA_SENDER",
        default_value = "The Sender <sender@localhost>"
    )]
    sender: Sender,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn table(written: &[Written]) {
    println!(
        "{:<26} {:>7} {:>6} {:>7} {:>7}",
        "series", "patches", "files", "added", "removed"
    );
    for one in written {
        println!(
            "{:<26} {:>7} {:>6} {:>7} {:>7}",
            one.series, one.patches, one.files, one.added, one.removed
        );
    }
}

fn run(verb: &Verb) -> Result<bool> {
    let common = match verb {
        Verb::Write(common) | Verb::Check { common, .. } => common,
    };
    let checks = matches!(verb, Verb::Check { .. });
    let kernel = common
        .kernel
        .canonicalize()
        .with_context(|| format!("cannot find {}", common.kernel.display()))?;
    let series = Series::all(&common.project.join("tools/series"))?;
    if let Verb::Check { only, .. } = verb {
        for name in only {
            if !series.iter().any(|one| one.name == *name) {
                let names: Vec<&str> = series.iter().map(|one| &*one.name).collect();
                bail!("no series {name}; there are: {}", names.join(", "));
            }
        }
    }
    plan::all_diffs_are_in(&series, &common.project)?;
    std::fs::create_dir_all(&common.out)
        .with_context(|| format!("cannot create {}", common.out.display()))?;
    let out = common.out.canonicalize()?;
    let sources = Sources {
        kernel: &kernel,
        project: &common.project,
        sender: &common.sender,
    };
    let tree = Tree::create(&out.join("repository"), &sources, &series)?;

    let mut written = Vec::new();
    let mut features = String::new();
    let mut good = true;
    for one in &series {
        eprintln!("series: {}: {} patches", one.name, one.plan.patch.len());
        tree.commit_series(one)?;
        let dir = out.join(&one.name);
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        written.push(mail::write(&tree, &kernel, one, &series, &dir)?);
        // Those of the project's own patches are applied to a kernel one by one, by their names.
        for (patch, diff) in one.plan.patch.iter().zip(tree.diffs(one)?) {
            if !patch.is_fix(&common.project) {
                features += &diff;
            }
        }
        if checks {
            check::applies(&tree, one, &dir)?;
            for finding in check::style(&kernel, one, &dir)? {
                match &finding.accepted {
                    Some(reason) => eprintln!("accepted: {} ({reason})", finding.line),
                    None => {
                        println!("problem: {}", finding.line);
                        good = false;
                    }
                }
            }
        }
    }
    let file = out.join("in-tree.patch");
    std::fs::write(&file, features).with_context(|| format!("cannot write {}", file.display()))?;
    if let Verb::Check {
        tree: Some(to),
        build,
        only,
        ..
    } = verb
    {
        eprintln!("series: a kernel tree with all of them in {}", to.display());
        let whole = WholeTree::create(&kernel, to, build)?;
        let mut built = 0;
        for one in &series {
            built += whole.add(&tree, one, only.is_empty() || only.contains(&one.name))?;
        }
        eprintln!("series: {built} builds");
    }
    if common.json {
        println!("{}", serde_json::to_string_pretty(&written)?);
    } else {
        table(&written);
    }
    Ok(good)
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("p2pdma-series: {error:#}");
            ExitCode::from(2)
        }
    }
}
