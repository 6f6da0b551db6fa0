// SPDX-License-Identifier: GPL-2.0

//! What packages are built from: the tracked files, and a debian/ that is filled in.
//!
//! Versions are said once: that of the project in tools/Cargo.toml, that of the kernel in
//! kernel.lock, that of the compiler by the package that it is in. Templates name them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{anyhow, bail, Context, Result};
use p2pdma_common::Manifest;
use serde::Deserialize;

/// Where the templates are, in the checkout.
const TEMPLATES: &str = "packaging/debian";

/// The part of kernel.lock that matters here, and of what replaces a line of it.
#[derive(Debug, Deserialize)]
struct Pin {
    series: String,
    release: String,
    version: String,
}

#[derive(Debug, Deserialize)]
struct Substitute {
    used: Pin,
}

/// Replaces each `@NAME@`. A name that is not known is an error, a lone `@` is not.
fn fill_in(text: &str, values: &BTreeMap<&str, String>) -> Result<String> {
    let mut filled = text.to_owned();
    for (name, value) in values {
        filled = filled.replace(&format!("@{name}@"), value);
    }
    let pattern = regex::Regex::new("@[A-Z_]+@")?;
    match pattern.find(&filled) {
        Some(unknown) => bail!("nobody knows what {} is", unknown.as_str()),
        None => Ok(filled),
    }
}

/// The package of a kernel: the pin of its flavour, or what was used instead of it.
fn pin(checkout: &Path, kernel: &Manifest) -> Result<Pin> {
    let lock = checkout.join("tools/testbed/kernel.lock");
    let text = fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
    let mut pins: BTreeMap<String, Pin> = toml::from_str(&text)?;
    if let Some(pin) = pins.remove(&kernel.flavour) {
        if pin.release == kernel.release {
            return Ok(pin);
        }
    }
    let file = kernel
        .source
        .parent()
        .and_then(Path::parent)
        .map(|kernels| kernels.join(format!("{}.substitute.toml", kernel.flavour)));
    file.and_then(|file| fs::read_to_string(file).ok())
        .and_then(|text| toml::from_str::<Substitute>(&text).ok())
        .map(|substitute| substitute.used)
        .filter(|pin| pin.release == kernel.release)
        .ok_or_else(|| {
            anyhow!(
                "kernel {} is of no package that is known: packages are for FLAVOUR=stock",
                kernel.release
            )
        })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What the kernel is called without its flavour: the programs of several flavours are the same.
fn kbuild_abi(release: &str) -> Result<(&str, &str)> {
    release
        .split_once('-')
        .ok_or_else(|| anyhow!("the release {release} has no `-`, so it is no kernel of Debian's"))
}

fn values(
    checkout: &Path,
    kernel: &Manifest,
    suffix: &str,
) -> Result<BTreeMap<&'static str, String>> {
    let pin = pin(checkout, kernel)?;
    let (abi, localversion) = kbuild_abi(&kernel.release)?;
    let arm64 = kernel.make.get("ARCH").is_some_and(|arch| arch == "arm64");
    let arch = if arm64 { "arm64" } else { "amd64" };
    let host = output(Command::new("dpkg").arg("--print-architecture"))?;
    let (cross, prefix) = if arm64 && host != "arm64" {
        ("CROSS_COMPILE=aarch64-linux-gnu-", "aarch64-linux-gnu-")
    } else {
        ("", "")
    };
    let rustc = output(Command::new("dpkg-query").args(["-W", "-f=${Version}", "rustc"]))?;
    let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => epoch,
        Err(_) => output(
            Command::new("git")
                .args(["-c", "safe.directory=*", "log", "-1", "--format=%ct"])
                .current_dir(checkout),
        )?,
    };
    let date = output(Command::new("date").args(["-u", "-R", "-d", &format!("@{epoch}")]))
        .with_context(|| format!("SOURCE_DATE_EPOCH={epoch}: seconds since 1970"))?;
    // A later commit is a later version, and so is what was made for a later kernel.
    let minute =
        output(Command::new("date").args(["-u", "+%Y%m%d%H%M", "-d", &format!("@{epoch}")]))?;
    let make: Vec<String> = kernel
        .make
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(BTreeMap::from([
        (
            "VERSION",
            format!("{}+{minute}{suffix}", env!("CARGO_PKG_VERSION")),
        ),
        ("ABI", kernel.release.clone()),
        ("KBUILD_ABI", abi.to_owned()),
        ("LOCALVERSION", localversion.to_owned()),
        ("SERIES", pin.series),
        ("KERNEL_VERSION", pin.version),
        ("KERNEL_SOURCE", kernel.source.display().to_string()),
        ("KERNEL_BUILD", kernel.build.display().to_string()),
        ("KERNEL_MAKE", make.join(" ")),
        ("ARCH", arch.to_owned()),
        ("CROSS", cross.to_owned()),
        ("STRIP", format!("{prefix}strip")),
        ("RUSTC_VERSION", rustc),
        ("SUITE", "trixie".to_owned()),
        ("DATE", date),
    ]))
}

/// The files that git knows, and that are there.
fn tracked(checkout: &Path) -> Result<Vec<PathBuf>> {
    let list = output(
        Command::new("git")
            .args([
                "-c",
                "safe.directory=*",
                "ls-files",
                "-z",
                "--cached",
                "--others",
            ])
            .arg("--exclude-standard")
            .current_dir(checkout),
    )?;
    let files = list.split('\0').filter(|name| !name.is_empty());
    Ok(files
        .map(PathBuf::from)
        .filter(|file| checkout.join(file).is_file())
        .collect())
}

/// Writes the source of the packages to `out`. Their version is that of the project and `suffix`.
pub fn write(checkout: &Path, kernel: &Path, suffix: &str, out: &Path) -> Result<()> {
    let text = fs::read_to_string(kernel).with_context(|| kernel.display().to_string())?;
    let kernel: Manifest = serde_json::from_str(&text)?;
    let values = values(checkout, &kernel, suffix)?;
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| out.display().to_string())?;
    }
    let put = |to: &Path, from: &Path, text: Option<String>| -> Result<()> {
        let write = || -> std::io::Result<()> {
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            // With its permissions, and its time, which tells what has to be compiled again.
            fs::copy(from, to)?;
            match text {
                Some(text) => fs::write(to, text),
                None => File::options()
                    .write(true)
                    .open(to)?
                    .set_modified(fs::metadata(from)?.modified()?),
            }
        };
        write().with_context(|| to.display().to_string())
    };
    for file in tracked(checkout)? {
        let from = checkout.join(&file);
        let Ok(template) = file.strip_prefix(TEMPLATES) else {
            put(&out.join(&file), &from, None)?;
            continue;
        };
        let text = fs::read_to_string(&from).with_context(|| from.display().to_string())?;
        let filled = fill_in(&text, &values).with_context(|| file.display().to_string())?;
        let name = template.to_string_lossy();
        let name = name.replace("ABI", &kernel.release);
        put(&out.join("debian").join(name), &from, Some(filled))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_unknown_ones_refused() {
        let values = BTreeMap::from([("ABI", "7.3-amd64".to_owned())]);
        let text = fill_in("linux-librust-@ABI@, a@b, $@", &values).expect("known");
        assert_eq!(text, "linux-librust-7.3-amd64, a@b, $@");
        let error = fill_in("@ABI@ @RUSTC@", &values).expect_err("unknown");
        assert!(error.to_string().contains("@RUSTC@"), "{error}");
    }

    #[test]
    fn the_release_is_taken_apart() {
        let apart = kbuild_abi("7.3.4+deb13-cloud-amd64").expect("Debian's");
        assert_eq!(apart, ("7.3.4+deb13", "cloud-amd64"));
        assert!(kbuild_abi("7.3.4").is_err());
    }

    fn kernel(release: &str) -> Manifest {
        serde_json::from_value(serde_json::json!({
            "flavour": "stock", "release": release, "source": "/c/kernel/k/source",
            "build": "/b", "modules": "/m",
        }))
        .expect("valid")
    }

    #[test]
    fn the_kernel_must_be_that_of_the_lock() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let testbed = dir.path().join("tools/testbed");
        fs::create_dir_all(&testbed).expect("made");
        let lock = "[stock]\nseries = \"7.3\"\nrelease = \"7.3.4-a\"\nversion = \"7.3.4-1\"\n";
        fs::write(testbed.join("kernel.lock"), lock).expect("written");
        assert_eq!(
            pin(dir.path(), &kernel("7.3.4-a")).expect("it is").version,
            "7.3.4-1"
        );
        let error = pin(dir.path(), &kernel("7.3.5-a")).expect_err("it is not");
        assert!(error.to_string().contains("FLAVOUR=stock"), "{error}");
    }
}
