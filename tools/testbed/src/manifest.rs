// SPDX-License-Identifier: GPL-2.0

//! `kernel.json`: what the other tools need to know about a kernel.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Result};
use serde::{Deserialize, Serialize};

use crate::cache::write_whole;
use crate::flavour::Check;

/// A kernel that modules can be built for and, if there is an `image`, that can be booted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Manifest {
    /// Name of the flavour, or `own` for a kernel of the user's.
    pub flavour: String,
    /// What `uname -r` says in it.
    pub release: String,
    /// Source tree.
    pub source: PathBuf,
    /// Build tree, for `make -C`.
    pub build: PathBuf,
    /// What to boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// Where its modules are: like `/lib/modules/<release>`, or a build tree.
    pub modules: PathBuf,
    /// Variables that every `make` for this kernel needs.
    #[serde(default)]
    pub make: BTreeMap<String, String>,
    /// How tests are run on it, where nobody says otherwise.
    #[serde(default, skip_serializing_if = "Check::is_plain")]
    pub check: Check,
}

impl Manifest {
    /// Writes it to `dir`, if given: as `kernel.json`, and as `kernel.env` for a shell.
    pub fn write(&self, dir: Option<&Path>) -> Result<()> {
        let Some(dir) = dir else { return Ok(()) };
        write_whole(&dir.join("kernel.json"), &serde_json::to_vec_pretty(self)?)?;
        write_whole(&dir.join("kernel.env"), self.to_env()?.as_bytes())
    }

    /// The same as assignments for a POSIX shell.
    pub fn to_env(&self) -> Result<String> {
        let path = |path: &PathBuf| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))
        };
        // Used unquoted, so that it becomes several words.
        let make: Vec<String> = self
            .make
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if let Some(odd) = make.iter().find(|word| word.contains(char::is_whitespace)) {
            bail!("make variables must not hold blanks: '{odd}'");
        }
        let facts = [
            ("KERNEL_FLAVOUR", self.flavour.clone()),
            ("KERNEL_RELEASE", self.release.clone()),
            ("KERNEL_SOURCE", path(&self.source)?),
            ("KERNEL_BUILD", path(&self.build)?),
            ("KERNEL_MAKE", make.join(" ")),
        ];
        facts
            .iter()
            .map(|(name, value)| Ok(format!("{name}={}\n", shlex::try_quote(value)?)))
            .collect()
    }
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
        let env = manifest().to_env().expect("valid");
        assert!(env.contains("KERNEL_BUILD='/cache dir/build'\n"), "{env}");
        assert!(env.contains("KERNEL_RELEASE=7.3.4+deb13-amd64\n"), "{env}");
        assert!(env.contains("KERNEL_MAKE='CC=gcc-14 V=1'\n"), "{env}");
    }

    #[test]
    fn make_variable_that_would_become_two_words_is_refused() {
        let mut manifest = manifest();
        manifest.make.insert("LLVM".into(), "1 -k".into());
        assert!(manifest.to_env().is_err());
    }

    #[test]
    fn json_has_no_image_where_there_is_none() {
        let json = serde_json::to_value(manifest()).expect("valid");
        assert!(json.get("image").is_none());
        assert!(json.get("check").is_none());
        assert_eq!(json["build"], "/cache dir/build");
    }
}
