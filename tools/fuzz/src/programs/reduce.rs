// SPDX-License-Identifier: GPL-2.0

//! The shortest program that still fails: delta debugging, where each attempt is a command, as it
//! boots a machine of its own.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{bail, ensure, Context, Result};

use super::keep::Keep;
use super::run::BATCH;
use super::LENGTH;
use crate::arguments::THREADS;

/// Leaves out what can be: `fails` says whether these steps do.
pub fn minimal(steps: usize, mut fails: impl FnMut(&Keep) -> Result<bool>) -> Result<Keep> {
    let mut keep = Keep::all(steps);
    let mut pieces = 2;

    ensure!(fails(&keep)?, "it does not fail with all of its steps");
    while keep.0.len() >= 2 {
        let size = keep.0.len().div_ceil(pieces);
        let mut shorter = None;

        for start in (0..keep.0.len()).step_by(size) {
            let end = (start + size).min(keep.0.len());
            let rest = Keep([&keep.0[..start], &keep.0[end..]].concat());

            if !rest.0.is_empty() && fails(&rest)? {
                shorter = Some(rest);
                break;
            }
        }
        match shorter {
            Some(rest) => {
                keep = rest;
                pieces = (pieces - 1).max(2);
            }
            None if size == 1 => break,
            None => pieces = (pieces * 2).min(keep.0.len()),
        }
    }
    Ok(keep)
}

/// Whether a command ended because something is wrong, and not because it could not run.
fn has_failed(program: &str, status: ExitStatus) -> Result<bool> {
    match status.code() {
        Some(0) => Ok(false),
        // Of a machine that could not be booted, and of a program that could not run.
        Some(2) => bail!("{program} could not run the program, see what it says"),
        _ => Ok(true),
    }
}

/// Runs `command` with `arguments` at its end, and passes on what it says, but for the numbers of
/// batches; whether it failed, and in which batch.
fn watch(command: &[String], arguments: &[&str]) -> Result<(bool, Option<u64>)> {
    let (program, first) = command.split_first().context("no command")?;
    let mut child = Command::new(program)
        .args(first)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut batch = None;

    // The commands that run a guest say there what the program in it does.
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|errors| BufReader::new(errors).lines())
    {
        let line = line?;

        match line
            .trim()
            .strip_prefix(BATCH)
            .and_then(|number| number.parse().ok())
        {
            Some(number) => batch = Some(number),
            None => eprintln!("{line}"),
        }
    }
    Ok((has_failed(program, child.wait()?)?, batch))
}

/// Runs random programs, and reduces the first batch that fails. Whether none does.
pub fn hunt(command: &[String], seed: u64, steps: u64) -> Result<bool> {
    let (seed, steps) = (seed.to_string(), steps.to_string());
    let (failed, batch) = watch(
        command,
        &["--seed", &seed, "--steps", &steps, "--say-batches"],
    )?;

    if !failed {
        return Ok(true);
    }
    let batch = batch
        .context("it failed before the first batch")?
        .to_string();
    let one: Vec<String> = command
        .iter()
        .map(String::as_str)
        .chain(["--seed", &seed, "--batch", &batch, "--batches", "1"])
        .map(String::from)
        .collect();

    eprintln!("# batch {batch} failed: looking for the shortest program that does");
    // Less than 32 bits.
    match with_command(&one, (u64::from(THREADS) * LENGTH) as usize) {
        Ok(keep) => {
            let keep = keep.to_string();

            println!("{} --keep {keep}", one.join(" "));
            // Nothing is run: it does not fail.
            watch(&one, &["--keep", &keep, "--print"])?;
        }
        Err(error) => eprintln!("# {error:#}: to see it again, run: {}", one.join(" ")),
    }
    Ok(false)
}

/// Runs `command`, with `--keep` and the steps at its end, until no step can be left out.
pub fn with_command(command: &[String], steps: usize) -> Result<Keep> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut attempts = 0;

    minimal(steps, |keep| {
        attempts += 1;
        let status = Command::new(program)
            .args(arguments)
            .args(["--keep", &keep.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("cannot run {program}"))?;
        let fails = has_failed(program, status)?;

        eprintln!(
            "# attempt {attempts}: {} steps {}",
            keep.0.len(),
            if fails { "fail" } else { "pass" }
        );
        Ok(fails)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_left() {
        for culprits in [vec![5], vec![0, 99], vec![3, 50, 51, 98]] {
            let mut attempts = 0;
            let keep = minimal(100, |keep| {
                attempts += 1;
                Ok(culprits.iter().all(|culprit| keep.has(*culprit)))
            });

            assert_eq!(keep.expect("reduced"), Keep(culprits));
            assert!(attempts < 200, "{attempts}");
        }
    }

    #[test]
    fn what_does_not_fail_is_an_error() {
        assert!(minimal(4, |_| Ok(false)).is_err());
    }

    #[test]
    fn what_is_hunted_is_reduced() {
        let sh =
            |script: &str| -> Vec<String> { ["sh", "-c", script, "sh"].map(String::from).into() };
        let found = sh(
            "case \"$*\" in *--print*) exit 0;; *--keep*) case ,$8, in *42*) exit 1;; esac;; \
             *) echo '# batch 3' >&2; exit 1;; esac",
        );

        assert!(!hunt(&found, 7, 1000).expect("hunted"));
        assert!(hunt(&sh("exit 0"), 7, 1000).expect("hunted"));
        assert!(hunt(&sh("exit 2"), 7, 1000).is_err());
        assert!(hunt(&sh("exit 1"), 7, 1000).is_err());
    }

    #[test]
    fn commands_end_as_they_do() {
        let sh = |script: &str| {
            let command: Vec<String> = ["sh", "-c", script, "sh"].map(String::from).into();

            with_command(&command, 4)
        };

        // `$2` is the list.
        let keep = sh("case ,$2, in *3*) exit 1;; *) exit 0;; esac");
        assert_eq!(keep.expect("reduced").to_string(), "3");
        assert!(sh("exit 2").is_err());
        assert!(sh("exit 0").is_err());
    }
}
