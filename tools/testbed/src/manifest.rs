// SPDX-License-Identifier: GPL-2.0

//! Writes and reads `kernel.json`: what the other tools need to know about a kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Result};
use p2pdma_common::{Check, Manifest};
use serde_json::Value;

use crate::cache::write_whole;

/// Reads what is known of a kernel in the cache, if it is complete.
///
/// How it is tested is no part of the kernel, and may have changed since, or be what another
/// checkout says: `check` is what counts.
pub fn cached(file: &Path, check: &Check) -> Option<Manifest> {
    let mut json: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    json.as_object_mut()?.remove("check");
    let manifest: Manifest = serde_json::from_value(json).ok()?;
    Some(Manifest {
        check: check.clone(),
        ..manifest
    })
}

/// Writes it to `dir`, if given: as `kernel.json`, and as `kernel.env` for a shell.
pub fn write(manifest: &Manifest, dir: Option<&Path>) -> Result<()> {
    let Some(dir) = dir else { return Ok(()) };
    write_whole(
        &dir.join("kernel.json"),
        &serde_json::to_vec_pretty(manifest)?,
    )?;
    write_whole(&dir.join("kernel.env"), to_env(manifest)?.as_bytes())
}

/// The same as assignments for a POSIX shell.
fn to_env(manifest: &Manifest) -> Result<String> {
    let path = |path: &PathBuf| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))
    };
    // Used unquoted, so that it becomes several words.
    let make: Vec<String> = manifest
        .make
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if let Some(odd) = make.iter().find(|word| word.contains(char::is_whitespace)) {
        bail!("make variables must not hold blanks: '{odd}'");
    }
    let facts = [
        ("KERNEL_FLAVOUR", manifest.flavour.clone()),
        ("KERNEL_RELEASE", manifest.release.clone()),
        ("KERNEL_SOURCE", path(&manifest.source)?),
        ("KERNEL_BUILD", path(&manifest.build)?),
        ("KERNEL_MAKE", make.join(" ")),
    ];
    facts
        .iter()
        .map(|(name, value)| Ok(format!("{name}={}\n", shlex::try_quote(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            flavour: "stock".into(),
            release: "7.3.4+deb13-amd64".into(),
            source: "/cache dir/source".into(),
            build: "/cache dir/build".into(),
            image: None,
            modules: "/cache dir/modules".into(),
            make: [
                ("CC".to_owned(), "gcc-14".to_owned()),
                ("V".to_owned(), "1".to_owned()),
            ]
            .into(),
            check: Check::default(),
        }
    }

    #[test]
    fn env_is_quoted_for_the_shell() {
        let env = to_env(&manifest()).expect("valid");
        assert!(env.contains("KERNEL_BUILD='/cache dir/build'\n"), "{env}");
        assert!(env.contains("KERNEL_RELEASE=7.3.4+deb13-amd64\n"), "{env}");
        assert!(env.contains("KERNEL_MAKE='CC=gcc-14 V=1'\n"), "{env}");
    }

    #[test]
    fn make_variable_that_would_become_two_words_is_refused() {
        let mut manifest = manifest();
        manifest.make.insert("LLVM".into(), "1 -k".into());
        assert!(to_env(&manifest).is_err());
    }

    #[test]
    fn how_it_is_tested_is_not_taken_from_the_cache() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("kernel.json");
        let mut json = serde_json::to_value(manifest()).expect("valid");
        let check = Check {
            kmemleak: true,
            ..Check::default()
        };
        let expected = Some(Manifest {
            check: check.clone(),
            ..manifest()
        });
        // Keys of another version among them.
        json["check"] = serde_json::json!({ "timeout-scale": 7.0, "later": 1 });
        fs::write(&file, json.to_string()).expect("written");
        assert_eq!(cached(&file, &check), expected);
        json["later"] = 1.into();
        fs::write(&file, json.to_string()).expect("written");
        assert_eq!(cached(&file, &check), None);
    }
}
