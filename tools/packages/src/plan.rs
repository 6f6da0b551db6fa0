// SPDX-License-Identifier: GPL-2.0

//! A plan: devices, as in a topology, and what is done in the guest that has them.

use std::fs;
use std::path::Path;

use anyhow::{bail, Context, Result};
use regex::Regex;
use serde::Deserialize;

/// Devices and steps.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plan {
    /// How long a step may take, in seconds.
    pub limit: u64,
    /// Options of QEMU that say what machine it is.
    pub machine: Vec<String>,
    /// Arguments of `-device`, in this order.
    pub devices: Vec<String>,
    /// Sizes in MiB of blank media: `drive=medium0` in a device is the first.
    pub media: Vec<u64>,
    /// Regular expressions: lines of the kernel's log that something is wrong with it.
    pub problems: Vec<String>,
    /// What is done, in this order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// What is done in the guest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Step {
    /// What it shows.
    pub name: String,
    /// Lines for `sh -e`, none for a reboot.
    #[serde(default)]
    pub run: Option<String>,
    /// Power off, and boot again.
    #[serde(default)]
    pub reboot: bool,
    /// Regular expressions: each is found in what is printed.
    #[serde(default)]
    pub prints: Vec<String>,
    /// Regular expressions: none is found in what is printed.
    #[serde(default)]
    pub never: Vec<String>,
    /// The exit status.
    #[serde(default)]
    pub status: i64,
}

/// Whether each of `patterns` is found in `text` as it should be; what is wrong otherwise.
fn compare(patterns: &[String], text: &str, found: bool) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for pattern in patterns {
        let regex = Regex::new(&format!("(?m){pattern}"))
            .with_context(|| format!("not a regular expression: {pattern}"))?;
        if regex.is_match(text) != found {
            let not = if found { "nowhere in" } else { "is in" };
            wrong.push(format!("/{pattern}/ {not} the output"));
        }
    }
    Ok(wrong)
}

impl Step {
    /// What is not as it should be, in words.
    pub fn judge(&self, status: i64, output: &str) -> Result<Vec<String>> {
        let mut wrong = compare(&self.prints, output, true)?;
        wrong.extend(compare(&self.never, output, false)?);
        if status != self.status {
            wrong.insert(0, format!("exit status {status}, not {}", self.status));
        }
        Ok(wrong)
    }
}

impl Plan {
    /// The lines of the kernel's log `console` that are problems.
    pub fn problems<'a>(&self, console: &'a str) -> Result<Vec<&'a str>> {
        let regex = Regex::new(&format!("(?:{})", self.problems.join(")|(?:")))?;
        Ok(console
            .lines()
            .filter(|line| regex.is_match(line))
            .collect())
    }

    /// Reads a plan; `defines` are `NAME=VALUE`, for `@NAME@` in it.
    pub fn load(path: &Path, defines: &[String]) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text, defines).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, defines: &[String]) -> Result<Self> {
        let mut plan: Self = toml::from_str(text)?;
        for define in defines {
            let (name, value) = define
                .split_once('=')
                .with_context(|| format!("--define {define}: it is NAME=VALUE"))?;
            let name = format!("@{name}@");
            for step in &mut plan.steps {
                step.run = step.run.as_ref().map(|lines| lines.replace(&name, value));
                for pattern in step.prints.iter_mut().chain(&mut step.never) {
                    *pattern = pattern.replace(&name, &regex::escape(value));
                }
            }
        }
        compare(&plan.problems, "", false)?;
        for step in &plan.steps {
            if step.run.is_some() == step.reboot {
                bail!("step '{}': either run or reboot", step.name);
            }
            // They are all well-formed, before anything is done.
            step.judge(0, "")?;
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "limit = 1\nmachine = []\ndevices = []\nmedia = []\nproblems = []\n\
                        [[step]]\nname = \"a\"\nrun = \"uname -r\"\n\
                        prints = [\"^@ABI@$\"]\nnever = [\"error\"]\n";

    #[test]
    fn steps_are_judged() {
        let plan = Plan::parse(PLAN, &["ABI=7+".into()]).expect("valid");
        let judge = |status, output| plan.steps[0].judge(status, output).expect("judged");
        assert!(judge(0, "x\n7+\n").is_empty());
        assert_eq!(judge(1, "7+\n"), ["exit status 1, not 0"]);
        assert_eq!(judge(0, "77\n"), ["/^7\\+$/ nowhere in the output"]);
        assert_eq!(judge(0, "7+\nerror\n"), ["/error/ is in the output"]);
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        for (from, to, says) in [
            ("run = \"uname -r\"", "", "either run or reboot"),
            ("run = ", "runs = ", "runs"),
            ("@ABI@", "(", "regular expression"),
        ] {
            let error = Plan::parse(&PLAN.replace(from, to), &[]).expect_err("refused");
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
        assert!(Plan::parse(PLAN, &["ABI".into()]).is_err());
    }
}
