// SPDX-License-Identifier: GPL-2.0

//! What the Debian mirror offers, and how to get it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{anyhow, bail, Context, Result};

use crate::step::Steps;

/// A package that the mirror offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// Hash of the file.
    pub sha256: String,
}

/// Reads the kernel packages out of a Debian package index.
fn parse_index(index: impl BufRead) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for paragraph in deb822_fast::Deb822::iter_paragraphs_from_reader(index) {
        let paragraph = paragraph.map_err(|error| anyhow!("not a package index: {error}"))?;
        let field = |name| {
            paragraph
                .get(name)
                .ok_or_else(|| anyhow!("not a package index: no field {name}"))
        };
        let name = field("Package")?;
        if name.starts_with("linux-") {
            packages.push(Package {
                name: name.to_owned(),
                version: field("Version")?.to_owned(),
                size: field("Size")?.parse()?,
                sha256: field("SHA256")?.to_owned(),
            });
        }
    }
    Ok(packages)
}

/// The kernel packages in the indexes that were fetched last.
pub fn offered() -> Result<Vec<Package>> {
    let indexes = Command::new("apt-get")
        .args([
            "indextargets",
            "--format",
            "$(FILENAME)",
            "Created-By: Packages",
        ])
        .output()
        .context("cannot run apt-get")?;
    let mut packages = Vec::new();
    for index in String::from_utf8(indexes.stdout)?.lines() {
        if !Path::new(index).exists() {
            continue;
        }
        let mut reader = Command::new("/usr/lib/apt/apt-helper")
            .args(["cat-file", index])
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run apt-helper")?;
        if let Some(stdout) = reader.stdout.take() {
            packages.extend(parse_index(BufReader::new(stdout)).with_context(|| index.to_owned())?);
        }
        if !reader.wait()?.success() {
            bail!("cannot read the package index {index}");
        }
    }
    Ok(packages)
}

/// Fetches the indexes anew.
pub fn update(steps: &Steps) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["update", "-o", "APT::Update::Error-Mode=any"]);
    steps.run("asking the Debian mirror for its packages", &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "\
Package: linux-source-7.3
Source: linux
Version: 7.3.4-1~bpo13+1
Architecture: all
Description: Linux kernel source
 continued
Size: 166780612
SHA256: 0123

Package: hello
Version: 2.10-3
Size: 53132
SHA256: 4567
";

    #[test]
    fn kernel_packages_are_found_in_an_index() {
        let packages = parse_index(INDEX.as_bytes()).expect("an index");
        assert_eq!(packages.len(), 1);
        assert_eq!(packages[0].name, "linux-source-7.3");
        assert_eq!(packages[0].version, "7.3.4-1~bpo13+1");
        assert_eq!(packages[0].size, 166_780_612);
    }

    #[test]
    fn index_without_a_needed_field_is_refused() {
        let index = INDEX.replace("SHA256: 0123\n", "");
        let error = parse_index(index.as_bytes())
            .expect_err("no hash")
            .to_string();
        assert!(error.contains("SHA256"), "{error}");
    }
}
