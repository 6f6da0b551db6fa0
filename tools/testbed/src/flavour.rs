// SPDX-License-Identifier: GPL-2.0

//! Kernel flavours: one data file each.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{anyhow, bail, Context, Result};
use serde::Deserialize;

/// What a package is there for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The kernel's source, as the distribution built it.
    Source,
    /// Configuration and exported symbols.
    Headers,
    /// Lists of modules.
    Base,
    /// Modules.
    Modules,
    /// What to boot.
    Image,
}

/// A kernel that the testbed can prepare.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flavour {
    /// Name of the data file.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Supported series, preferred first.
    pub series: Vec<String>,
    /// Pattern of the release names.
    release: String,
    /// Pattern of the package names.
    packages: BTreeMap<Role, String>,
    /// Variables for `make`.
    pub make: BTreeMap<String, String>,
}

impl Flavour {
    /// Reads the flavour `name`.
    pub fn load(dir: &Path, name: &str) -> Result<Self> {
        let path = dir.join(name).with_extension("toml");
        if !path.is_file() {
            let known: Vec<String> = Self::load_all(dir)?
                .iter()
                .map(|flavour| format!("{} ({})", flavour.name, flavour.description))
                .collect();
            bail!(
                "unknown kernel flavour '{name}'; known: {}",
                known.join(", ")
            );
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(name, &text).with_context(|| format!("in {}", path.display()))
    }

    /// Reads all flavours.
    pub fn load_all(dir: &Path) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let stem = path.file_stem().and_then(|stem| stem.to_str());
                names.push(
                    stem.ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))?
                        .to_owned(),
                );
            }
        }
        names.sort();
        names.iter().map(|name| Self::load(dir, name)).collect()
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let mut flavour: Self = toml::from_str(text)?;
        name.clone_into(&mut flavour.name);
        if flavour.release.matches('*').count() != 1 {
            bail!("release must hold one '*', it is '{}'", flavour.release);
        }
        Ok(flavour)
    }

    /// The release that a package name of `role` stands for, if it is one of `series`.
    pub fn release_of<'a>(&self, role: Role, series: &str, package: &'a str) -> Option<&'a str> {
        let (before, after) = self.packages.get(&role)?.split_once("{release}")?;
        let release = package.strip_prefix(before)?.strip_suffix(after)?;
        let pattern = self.release.replace("{series}", series);
        let (prefix, suffix) = pattern.split_once('*')?;
        let changing = release.strip_prefix(prefix)?.strip_suffix(suffix)?;
        (!changing.is_empty() && !changing.contains('-')).then_some(release)
    }

    /// Names of the packages that make up a release.
    pub fn packages(&self, series: &str, release: &str) -> BTreeMap<Role, String> {
        self.packages
            .iter()
            .map(|(role, name)| {
                let name = name
                    .replace("{series}", series)
                    .replace("{release}", release);
                (*role, name)
            })
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn stock() -> Flavour {
        Flavour::parse("stock", include_str!("../flavours/stock.toml")).expect("valid")
    }

    #[test]
    fn releases_are_read_off_package_names() {
        let release = |name| {
            stock()
                .release_of(Role::Headers, "7.3", name)
                .map(str::to_owned)
        };
        assert_eq!(
            release("linux-headers-7.3.4+deb13-amd64").as_deref(),
            Some("7.3.4+deb13-amd64")
        );
        assert_eq!(release("linux-headers-7.3.4+deb13-rt-amd64"), None);
        assert_eq!(release("linux-headers-7.3.4+deb13-cloud-amd64"), None);
        assert_eq!(release("linux-headers-7.3.4+deb13-common"), None);
        assert_eq!(release("linux-headers-7.30.4+deb13-amd64"), None);
        assert_eq!(release("linux-headers-7.2.9+deb13-amd64"), None);
        assert_eq!(release("linux-headers-amd64"), None);
    }

    #[test]
    fn packages_are_named_after_the_release() {
        let packages = stock().packages("7.3", "7.3.4+deb13-amd64");
        assert_eq!(packages[&Role::Source], "linux-source-7.3");
        assert_eq!(packages[&Role::Image], "linux-binary-7.3.4+deb13-amd64");
    }

    #[test]
    fn unknown_flavour_names_the_known_ones() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("flavours");
        let error = Flavour::load(&dir, "nosuch")
            .expect_err("not there")
            .to_string();
        assert!(
            error.contains("'nosuch'") && error.contains("stock"),
            "{error}"
        );
    }

    #[test]
    fn a_release_without_a_place_for_the_point_release_is_refused() {
        let text = include_str!("../flavours/stock.toml").replace(".*-amd64", ".4-amd64");
        assert!(Flavour::parse("stock", &text).is_err());
    }
}
