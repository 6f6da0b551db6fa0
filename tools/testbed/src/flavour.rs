// SPDX-License-Identifier: GPL-2.0

//! Kernel flavours: one data file each.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use p2pdma_common::Check;
use serde::{Deserialize, Serialize};

use crate::apt::Package;

/// What a package is there for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
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
#[derive(Debug)]
pub struct Flavour {
    /// Name of the data file.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The Debian whose packages and compilers it needs.
    pub suite: String,
    /// Variables for `make`.
    pub make: BTreeMap<String, String>,
    /// How tests are run on it.
    pub check: Check,
    /// Where the kernel comes from.
    pub origin: Origin,
}

/// Where the kernel of a flavour comes from.
#[derive(Debug)]
pub enum Origin {
    /// From the distribution, and nothing of it is compiled.
    Packaged(Packaged),
    /// It is compiled from the source of another flavour.
    Compiled(Compiled),
}

/// A kernel of the distribution's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packaged {
    /// Supported series, preferred first.
    pub series: Vec<String>,
    /// Pattern of the release names.
    release: String,
    /// Pattern of the package names.
    packages: BTreeMap<Role, String>,
}

/// A kernel that is compiled here.
#[derive(Debug)]
pub struct Compiled {
    /// The packaged flavour whose source it is compiled from.
    pub base: String,
    /// The file with the options that are set.
    pub fragment: PathBuf,
    /// Further files: what they say of an option counts, not what those before them do.
    pub also: Vec<PathBuf>,
    /// Patches that are applied to a copy of that source, in this order.
    pub patches: Vec<PathBuf>,
}

/// A data file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    description: String,
    #[serde(default = "default_suite")]
    suite: String,
    packaged: Option<Packaged>,
    compiled: Option<CompiledFile>,
    #[serde(default)]
    make: BTreeMap<String, String>,
    #[serde(default)]
    check: Check,
}

/// As tools/testbed/root has it.
fn default_suite() -> String {
    "trixie".into()
}

/// The Debian that this runs in, as tools/testbed/enter says.
pub fn suite_here() -> String {
    env::var("P2PDMA_SUITE").unwrap_or_else(|_| default_suite())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompiledFile {
    source: String,
    config: String,
    /// Files with options beside it, which come after it.
    #[serde(default)]
    also: Vec<String>,
    /// A list of patches, as quilt has it.
    series: Option<String>,
}

impl Flavour {
    /// Reads the flavour `name`.
    pub fn load(dir: &Path, name: &str) -> Result<Self> {
        // Not with_extension(): a name may have a dot, as "stock-7.2".
        let path = dir.join(format!("{name}.toml"));
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
        Self::parse(dir, name, &text).with_context(|| format!("in {}", path.display()))
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

    fn parse(dir: &Path, name: &str, text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let mut check = file.check;
        let origin = match (file.packaged, file.compiled) {
            (Some(packaged), None) => {
                if packaged.release.matches('*').count() != 1 {
                    bail!("release must hold one '*', it is '{}'", packaged.release);
                }
                Origin::Packaged(packaged)
            }
            (None, Some(compiled)) => {
                let series = compiled.series.map(|series| dir.join(series));
                let patches = series.as_deref().map_or(Ok(Vec::new()), read_series)?;
                // Each is called by the name of what it mends.
                let names = patches
                    .iter()
                    .filter_map(|patch| patch.file_stem()?.to_str());
                check.fixed.extend(names.map(str::to_owned));
                Origin::Compiled(Compiled {
                    base: compiled.source,
                    fragment: dir.join(compiled.config),
                    also: compiled.also.iter().map(|name| dir.join(name)).collect(),
                    patches,
                })
            }
            _ => bail!("a kernel is either [packaged] or [compiled]"),
        };
        Ok(Self {
            name: name.to_owned(),
            description: file.description,
            suite: file.suite,
            make: file.make,
            check,
            origin,
        })
    }
}

/// The patches that a series names, beside it.
fn read_series(path: &Path) -> Result<Vec<PathBuf>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().map(str::trim);
    let names = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(names.map(|name| path.with_file_name(name)).collect())
}

impl Flavour {
    /// Refuses a kernel of another Debian than this runs in: its packages are not to be had.
    pub fn check_suite(&self) -> Result<()> {
        let here = suite_here();
        if self.suite != here {
            bail!(
                "the kernel flavour {} needs a root of the suite {}, and this one is {here}: enter \
                 it with FLAVOUR={}",
                self.name,
                self.suite,
                self.name
            );
        }
        Ok(())
    }

    /// The distribution's kernel that this flavour is.
    pub fn packaged(&self) -> Result<&Packaged> {
        match &self.origin {
            Origin::Packaged(packaged) => Ok(packaged),
            Origin::Compiled(_) => bail!(
                "the kernel flavour {} has no source package: it is compiled itself",
                self.name
            ),
        }
    }
}

impl Packaged {
    /// The release that a package name of `role` stands for, if it is one of `series`.
    pub fn release_of<'a>(&self, role: Role, series: &str, package: &'a str) -> Option<&'a str> {
        let (before, after) = self.packages.get(&role)?.split_once("{release}")?;
        let release = package.strip_prefix(before)?.strip_suffix(after)?;
        let pattern = self.release.replace("{series}", series);
        let (prefix, suffix) = pattern.split_once('*')?;
        let changing = release.strip_prefix(prefix)?.strip_suffix(suffix)?;
        (!changing.is_empty() && !changing.contains('-')).then_some(release)
    }

    /// The series of which the mirror has the source, listed here or not, oldest first.
    pub fn series_offered(&self, offered: &[Package]) -> Vec<String> {
        let pattern = self.packages.get(&Role::Source).map_or("", String::as_str);
        let (before, after) = pattern.split_once("{series}").unwrap_or((pattern, ""));
        let is_series = |text: &&str| {
            let numbers: Vec<&str> = text.split('.').collect();
            let digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
            numbers.len() == 2 && numbers.iter().all(|part| !part.is_empty() && digits(part))
        };
        let mut found: Vec<String> = offered
            .iter()
            .filter_map(|package| package.name.strip_prefix(before)?.strip_suffix(after))
            .filter(is_series)
            .map(str::to_owned)
            .collect();
        found.sort_by(|a, b| deb_version::compare_versions(a, b));
        found.dedup();
        found
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

    fn dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("flavours")
    }

    pub(crate) fn stock() -> Flavour {
        Flavour::load(&dir(), "stock").expect("valid")
    }

    pub(crate) fn packaged() -> Packaged {
        match stock().origin {
            Origin::Packaged(packaged) => packaged,
            Origin::Compiled(_) => panic!("stock is not compiled"),
        }
    }

    fn error(text: &str) -> String {
        let error = Flavour::parse(&dir(), "some", text).expect_err("wrong");
        format!("{error:#}")
    }

    #[test]
    fn releases_are_read_off_package_names() {
        let release = |name| {
            packaged()
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
        let packages = packaged().packages("7.3", "7.3.4+deb13-amd64");
        assert_eq!(packages[&Role::Source], "linux-source-7.3");
        assert_eq!(packages[&Role::Image], "linux-binary-7.3.4+deb13-amd64");
    }

    #[test]
    fn series_are_read_off_the_sources() {
        let offered = [
            "linux-source-7.10",
            "linux-source-7.9",
            "linux-source",
            "linux-source-7.9-rt",
            "linux-headers-7.11.1+deb13-amd64",
            "linux-source-7.10",
        ]
        .map(|name| Package {
            name: name.into(),
            version: "1".into(),
            size: 1,
            sha256: String::new(),
        });
        assert_eq!(packaged().series_offered(&offered), ["7.9", "7.10"]);
    }

    #[test]
    fn unknown_flavour_names_the_known_ones() {
        let error = Flavour::load(&dir(), "nosuch")
            .expect_err("not there")
            .to_string();
        assert!(
            error.contains("'nosuch'") && error.contains("stock") && error.contains("debug"),
            "{error}"
        );
    }

    #[test]
    fn a_release_without_a_place_for_the_point_release_is_refused() {
        let text = include_str!("../flavours/stock.toml").replace(".*-amd64", ".4-amd64");
        assert!(error(&text).contains("one '*'"));
    }

    #[test]
    fn a_kernel_has_one_origin() {
        let compiled = "[compiled]\nsource = \"stock\"\nconfig = \"x.config\"\n";
        let none = "description = \"x\"\n";
        assert!(error(none).contains("either [packaged] or [compiled]"));
        let both = format!("{}\n{compiled}", include_str!("../flavours/stock.toml"));
        assert!(error(&both).contains("either [packaged] or [compiled]"));
        let one = Flavour::parse(&dir(), "some", &format!("{none}{compiled}")).expect("valid");
        let Origin::Compiled(compiled) = one.origin else {
            panic!("it is compiled");
        };
        assert_eq!(compiled.fragment, dir().join("x.config"));
        assert!(compiled.patches.is_empty());
        assert_eq!(one.check, Check::default());
    }

    #[test]
    fn a_patch_mends_what_it_is_called_by() {
        let tmp = tempfile::tempdir().expect("temporary directory");
        let dir = tmp.path();
        fs::write(dir.join("series"), "# in this order\nb.patch\n\na.patch\n").expect("written");
        let text = "description = \"x\"\n[check]\nfixed = [\"c\"]\n\
                    [compiled]\nsource = \"stock\"\nconfig = \"x.config\"\nseries = \"series\"\n";
        let flavour = Flavour::parse(dir, "some", text).expect("valid");
        assert_eq!(flavour.check.fixed, ["c", "b", "a"]);
        let Origin::Compiled(compiled) = flavour.origin else {
            panic!("it is compiled");
        };
        assert_eq!(compiled.patches, [dir.join("b.patch"), dir.join("a.patch")]);
        let error = Flavour::parse(dir, "some", &text.replace("\"series\"\n", "\"none\"\n"));
        let error = format!("{:#}", error.expect_err("there is no such file"));
        assert!(error.contains("none: No such file"), "{error}");
    }

    #[test]
    fn a_kernel_of_another_debian_is_refused_with_what_to_do() {
        let mut flavour = stock();
        assert!(flavour.check_suite().is_ok());
        flavour.suite = "sid".into();
        let error = flavour.check_suite().expect_err("another").to_string();
        assert!(error.contains("a root of the suite sid"), "{error}");
        assert!(error.contains("FLAVOUR=stock"), "{error}");
    }

    #[test]
    fn every_compiled_flavour_has_a_fragment_and_a_packaged_source() {
        let all = Flavour::load_all(&dir()).expect("valid");
        let mut seen = 0;
        for flavour in &all {
            let Origin::Compiled(compiled) = &flavour.origin else {
                continue;
            };
            seen += 1;
            for file in [&compiled.fragment].into_iter().chain(&compiled.also) {
                assert!(file.is_file(), "{}: {}", flavour.name, file.display());
            }
            for patch in &compiled.patches {
                assert!(patch.is_file(), "{}", patch.display());
            }
            let base = all.iter().find(|other| other.name == compiled.base);
            assert!(
                base.is_some_and(|base| base.packaged().is_ok()),
                "{}",
                flavour.name
            );
        }
        assert!(seen > 0);
    }
}
