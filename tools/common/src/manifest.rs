// SPDX-License-Identifier: GPL-2.0

//! `kernel.json`: what the testbed tells the other tools of a kernel.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The flavour of a kernel of the user's.
pub const OWN: &str = "own";

/// A kernel that modules can be built for and, if there is an `image`, that can be booted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the flavour, or [`OWN`].
    pub flavour: String,
    /// What `uname -r` says in it.
    pub release: String,
    /// Source tree.
    pub source: PathBuf,
    /// Build tree, for `make -C`.
    pub build: PathBuf,
    /// What to boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// How tests are run on a kernel, where nobody says otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Check {
    /// In which topologies; in all, if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topologies: Vec<String>,
    /// What all time limits are multiplied by.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::scale::deserialize"
    )]
    pub timeout_scale: Option<f64>,
    /// The kernel looks for leaks: a run in which it was not asked is no good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kmemleak: bool,
    /// Tests that have all they need on it: they are not skipped as a whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub must_run: Vec<String>,
    /// Known defects of the kernel that this one does not have: they are no excuse on it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<String>,
    /// What its command line has to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
}

impl Check {
    /// Whether nothing is special about it.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            flavour: "debug".into(),
            release: "7.3.4".into(),
            source: "/source".into(),
            build: "/build".into(),
            image: None,
            modules: "/build".into(),
            make: BTreeMap::new(),
            check: Check {
                topologies: vec!["switch".into()],
                timeout_scale: Some(10.0),
                kmemleak: true,
                must_run: vec!["p2pdma_kunit".into()],
                fixed: vec!["some-leak".into()],
                cmdline: "no5lvl".into(),
            },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = serde_json::to_string(&manifest()).expect("valid");
        let read: Manifest = serde_json::from_str(&text).expect("reads");
        assert_eq!(read, manifest());
    }

    #[test]
    fn what_is_not_there_is_not_written() {
        let mut manifest = manifest();
        manifest.check = Check::default();
        let json = serde_json::to_value(manifest).expect("valid");
        assert!(json.get("image").is_none());
        assert!(json.get("check").is_none());
        assert_eq!(json["build"], "/build");
    }

    #[test]
    fn keys_that_are_unknown_are_refused() {
        let text = serde_json::to_string(&manifest()).expect("valid");
        for (from, to, says) in [
            ("timeout-scale", "time-scale", "time-scale"),
            ("\"check\"", "\"checks\"", "checks"),
            ("10.0", "-1.0", "a factor is"),
        ] {
            let error = serde_json::from_str::<Manifest>(&text.replace(from, to));
            let error = error.expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
