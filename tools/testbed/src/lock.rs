// SPDX-License-Identifier: GPL-2.0

//! The lock file: which kernel packages are used, so that two runs use the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

use crate::apt::Package;
use crate::flavour::{Packaged, Role};

const HEADER: &str = "# SPDX-License-Identifier: GPL-2.0
#
# The kernel packages in use, written by `make update-lock`. When the mirror no longer has them,
# the newest of the same series are used instead, or of another that the flavour has, with a
# message.

";

/// One kernel release as the distribution packaged it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Kernel series, such as `7.3`.
    pub series: String,
    /// What `uname -r` says.
    pub release: String,
    /// Version of all packages.
    pub version: String,
    /// The packages.
    pub packages: BTreeMap<Role, PinnedPackage>,
}

/// One package of a release.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedPackage {
    /// Name of the package.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of the package.
    pub sha256: String,
}

/// The lock file: a release per flavour.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Lock(pub BTreeMap<String, Pin>);

impl Lock {
    /// Reads the lock file; there may be none.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("in {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The text of the lock file.
    pub fn to_text(&self) -> Result<String> {
        Ok(format!("{HEADER}{}", toml::to_string(self)?))
    }
}

/// Which release to use.
#[derive(Debug, Eq, PartialEq)]
pub enum Choice {
    /// The pinned one.
    Pinned(Pin),
    /// Nothing is pinned: the newest.
    Newest(Pin),
    /// The mirror no longer has the pinned one: the newest of its series, or of another one.
    Replaced(Pin),
}

/// All releases of `series` of which the mirror has every package, newest first.
pub fn releases(flavour: &Packaged, series: &str, offered: &[Package]) -> Vec<Pin> {
    let mut found: Vec<Pin> = offered
        .iter()
        .filter_map(|package| {
            let release = flavour.release_of(Role::Headers, series, &package.name)?;
            let packages = flavour
                .packages(series, release)
                .into_iter()
                .map(|(role, name)| {
                    let same =
                        |other: &&Package| other.name == name && other.version == package.version;
                    let package = offered.iter().find(same)?;
                    let pinned = PinnedPackage {
                        name,
                        size: package.size,
                        sha256: package.sha256.clone(),
                    };
                    Some((role, pinned))
                })
                .collect::<Option<_>>()?;
            Some(Pin {
                series: series.to_owned(),
                release: release.to_owned(),
                version: package.version.clone(),
                packages,
            })
        })
        .collect();
    found.sort_by(|a, b| deb_version::compare_versions(&b.version, &a.version));
    found
}

/// Decides which release to use, given what is pinned and what the mirror offers.
pub fn choose(flavour: &Packaged, pinned: Option<&Pin>, offered: &[Package]) -> Result<Choice> {
    // The pinned series first, which need not be one of the flavour's.
    let mut all_series: Vec<&str> = pinned.map(|pin| pin.series.as_str()).into_iter().collect();
    for series in &flavour.series {
        if !all_series.contains(&series.as_str()) {
            all_series.push(series);
        }
    }
    let found: Vec<Pin> = all_series
        .iter()
        .flat_map(|series| releases(flavour, series, offered))
        .collect();
    let Some(newest) = found.first() else {
        bail!(
            "the Debian mirror has no complete set of packages of a kernel {}: this \
             version of the project supports the kernel series {}; look for a newer version of \
             the project, or use a kernel of your own with KDIR= or KERNEL=",
            all_series.join(" or "),
            flavour.series.join(", "),
        );
    };
    let Some(pin) = pinned else {
        return Ok(Choice::Newest(newest.clone()));
    };
    match found
        .iter()
        .find(|found| found.release == pin.release && found.version == pin.version)
    {
        Some(same) if same.packages == pin.packages => Ok(Choice::Pinned(same.clone())),
        Some(_) => bail!(
            "the mirror's packages of kernel {} have the version in kernel.lock ({}), but other \
             contents; if that is right, run `make update-lock`",
            pin.release,
            pin.version
        ),
        None => Ok(Choice::Replaced(newest.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavour::tests::packaged;

    fn offer(release: &str, version: &str) -> Vec<Package> {
        packaged()
            .packages("7.3", release)
            .into_values()
            .map(|name| Package {
                sha256: format!("hash of {name} {version}"),
                name,
                version: version.to_owned(),
                size: 1,
            })
            .collect()
    }

    fn pin(release: &str, version: &str) -> Pin {
        releases(&packaged(), "7.3", &offer(release, version)).remove(0)
    }

    #[test]
    fn newest_release_is_the_highest_version_not_the_last_name() {
        let mut offered = offer("7.3.10+deb13-amd64", "7.3.10-1~bpo13+1");
        offered.extend(offer("7.3.9+deb13-amd64", "7.3.9-2~bpo13+1"));
        let found: Vec<String> = releases(&packaged(), "7.3", &offered)
            .into_iter()
            .map(|pin| pin.release)
            .collect();
        assert_eq!(found, ["7.3.10+deb13-amd64", "7.3.9+deb13-amd64"]);
    }

    #[test]
    fn release_without_its_source_is_not_offered() {
        // Mirrors keep headers of old point releases longer than their source.
        let mut offered = offer("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let old = offer("7.3.2+deb13-amd64", "7.3.2-1~bpo13+1");
        offered.extend(
            old.into_iter()
                .filter(|package| package.name != "linux-source-7.3"),
        );
        assert_eq!(releases(&packaged(), "7.3", &offered).len(), 1);
    }

    #[test]
    fn pinned_release_is_used_while_it_is_there() {
        let mut offered = offer("7.3.5+deb13-amd64", "7.3.5-1~bpo13+1");
        offered.extend(offer("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1"));
        let pin = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let choice = choose(&packaged(), Some(&pin), &offered).expect("there");
        assert_eq!(choice, Choice::Pinned(pin));
    }

    #[test]
    fn pinned_release_that_is_gone_is_replaced_by_the_newest() {
        let offered = offer("7.3.5+deb13-amd64", "7.3.5-1~bpo13+1");
        let old = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let choice = choose(&packaged(), Some(&old), &offered).expect("there");
        assert_eq!(
            choice,
            Choice::Replaced(pin("7.3.5+deb13-amd64", "7.3.5-1~bpo13+1"))
        );
    }

    #[test]
    fn series_that_is_gone_is_replaced_by_another_of_the_flavour() {
        let mut flavour = packaged();
        flavour.series = vec!["7.3".into(), "7.2".into()];
        let old = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let (release, version) = ("7.2.12+deb13-amd64", "7.2.12-1~bpo13+1");
        let names = flavour.packages("7.2", release).into_values();
        let offered: Vec<Package> = names
            .map(|name| Package {
                sha256: format!("hash of {name}"),
                name,
                version: version.into(),
                size: 1,
            })
            .collect();
        let choice = choose(&flavour, Some(&old), &offered).expect("there");
        let Choice::Replaced(used) = choice else {
            panic!("{choice:?}");
        };
        assert_eq!(
            (used.series.as_str(), used.release.as_str()),
            ("7.2", release)
        );
        // And it is not, where the flavour is that series and no other.
        flavour.series = vec!["7.3".into()];
        assert!(choose(&flavour, Some(&old), &offered).is_err());
    }

    #[test]
    fn pinned_series_need_not_be_listed() {
        let mut flavour = packaged();
        flavour.series = vec!["7.2".into()];
        let pin = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let offered = offer("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let choice = choose(&flavour, Some(&pin), &offered).expect("there");
        assert_eq!(choice, Choice::Pinned(pin));
    }

    #[test]
    fn series_that_is_gone_stops_with_the_supported_ones() {
        let offered = [Package {
            name: "linux-source-7.4".into(),
            version: "7.4-1".into(),
            size: 1,
            sha256: String::new(),
        }];
        let error = choose(&packaged(), None, &offered)
            .expect_err("gone")
            .to_string();
        assert!(error.contains("supports the kernel series 7.3"), "{error}");
    }

    #[test]
    fn same_version_with_other_contents_is_refused() {
        let mut offered = offer("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let pin = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        offered[0].sha256 = "another".into();
        let error = choose(&packaged(), Some(&pin), &offered)
            .expect_err("changed")
            .to_string();
        assert!(error.contains("other contents"), "{error}");
    }

    #[test]
    fn lock_file_is_read_back_as_written() {
        let pin = pin("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let lock = Lock([("stock".to_owned(), pin)].into());
        let text = lock.to_text().expect("valid");
        assert_eq!(toml::from_str::<Lock>(&text).expect("valid"), lock);
        assert!(text.starts_with("# SPDX"), "{text}");
    }

    #[test]
    fn lock_file_that_is_not_one_is_refused_with_its_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("kernel.lock");
        fs::write(&path, "[stock]\nrelease = 3\n").expect("written");
        let error = Lock::load(&path).expect_err("wrong type").to_string();
        assert!(error.contains("kernel.lock"), "{error}");
        assert_eq!(
            Lock::load(&dir.path().join("none")).expect("none"),
            Lock::default()
        );
    }
}
