// SPDX-License-Identifier: GPL-2.0

//! Kernel trees: is one fit for building the modules, and for booting it?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{bail, Context, Result};
use p2pdma_common::{Arch, Check, Manifest, OWN};

/// A kernel configuration.
#[derive(Debug, Default)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Reads a `.config`.
    pub fn load(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let options = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        });
        Self(options.collect())
    }

    /// The value of an option that is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether an option is set to `y`.
    pub fn is_yes(&self, name: &str) -> bool {
        self.get(name) == Some("y")
    }

    /// Options of `self` that `other` has not, or with another value.
    ///
    /// Versions of build tools are left out, which the kernel records among its options. That of
    /// rustc is not: modules must be built by the very same.
    pub fn lost_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(|(name, value)| other.0.get(*name) != Some(*value))
            .map(|(name, _)| name.as_str())
            .filter(|name| {
                name.starts_with("RUSTC_VERSION")
                    || !(name.ends_with("_VERSION") || name.ends_with("_VERSION_TEXT"))
            })
    }

    /// The lines of `fragment`, the source of a configuration, that do not hold in this one.
    pub fn lacks(&self, fragment: &str) -> Result<Vec<String>> {
        const UNSET: &str = " is not set";
        let mut lacking = Vec::new();
        for line in fragment.lines().map(str::trim) {
            let comment = line.strip_prefix('#').map(str::trim);
            let holds = match comment {
                Some(comment) => match comment.strip_suffix(UNSET) {
                    Some(name) => self.get(name.trim_start_matches("CONFIG_")).is_none(),
                    None => true,
                },
                None if line.is_empty() => true,
                None => {
                    let (name, value) = line
                        .strip_prefix("CONFIG_")
                        .and_then(|option| option.split_once('='))
                        .with_context(|| format!("not an option of the kernel: '{line}'"))?;
                    self.get(name) == Some(value.trim_matches('"'))
                }
            };
            if !holds {
                lacking.push(comment.unwrap_or(line).to_owned());
            }
        }
        Ok(lacking)
    }
}

/// The option that a line of a fragment is about, if any: that it is set, or that it is not.
fn option_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let unset = line
        .strip_prefix("# ")
        .and_then(|line| line.strip_suffix(" is not set"));
    let name = unset.or_else(|| line.split_once('=').map(|(name, _)| name))?;
    name.strip_prefix("CONFIG_")
}

/// The options of `base`, but for those that `with` has, and those of `with`.
pub fn override_options(base: &str, with: &str) -> String {
    let named: BTreeSet<&str> = with.lines().filter_map(option_of).collect();
    let kept = base
        .lines()
        .filter(|line| option_of(line).is_none_or(|option| !named.contains(option)));
    kept.chain(with.lines())
        .fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
}

/// What `rustc --version` says here.
pub fn rustc_version() -> Result<String> {
    let output = Command::new("rustc")
        .arg("--version")
        .output()
        .context("cannot run rustc --version")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Refuses a kernel that another rustc has built: Rust metadata are only good for the same one.
pub fn check_rustc(config: &Config, rustc: &str) -> Result<()> {
    let kernel = config
        .get("RUSTC_VERSION_TEXT")
        .unwrap_or("no rustc at all");
    if kernel != rustc {
        bail!(
            "the kernel was built by \"{kernel}\" (CONFIG_RUSTC_VERSION_TEXT) and the testbed has \
             \"{rustc}\": Rust modules need the very same compiler"
        );
    }
    Ok(())
}

/// Checks that modules can be built for the kernel tree `dir`, and describes it.
pub fn check(dir: &Path, llvm: Option<&str>, boot: bool, rustc: &str) -> Result<Manifest> {
    let shown = dir.display().to_string();
    if !dir.is_dir() {
        bail!(
            "{shown}: no such directory; KDIR= and KERNEL= take a kernel tree or its O= directory"
        );
    }
    let dir = dir
        .canonicalize()
        .with_context(|| format!("cannot read {shown}"))?;
    let in_build = |path: &str| dir.join(path);
    if !in_build(".config").is_file() {
        bail!("{shown}: no .config, so not a configured kernel tree or O= directory");
    }
    let config = Config::load(&in_build(".config"))?;
    if !config.is_yes("RUST") {
        bail!(
            "{shown}: the kernel is configured without Rust: set CONFIG_RUST=y and build it again \
             (`make rustavailable` says what is missing if it cannot be set)"
        );
    }
    for option in ["MODULES", "PCI_P2PDMA"] {
        if !config.is_yes(option) {
            bail!("{shown}: the kernel is configured without CONFIG_{option}=y, which is needed");
        }
    }
    let clang = config.is_yes("CC_IS_CLANG");
    let llvm = llvm.filter(|value| !value.is_empty() && *value != "0");
    let arch = Arch::ALL
        .into_iter()
        .find(|arch| config.is_yes(arch.names().config))
        .with_context(|| {
            let supported = Arch::ALL.map(|arch| arch.names().kernel).join(" and ");
            format!("{shown}: the kernel is for another architecture than {supported}")
        })?;
    let build_with = match (arch.is_host(), clang) {
        (true, true) => " LLVM=1".into(),
        (true, false) => String::new(),
        (false, true) => format!(" ARCH={arch} LLVM=1"),
        (false, false) => format!(" ARCH={arch} CROSS_COMPILE={}-", arch.names().triple),
    };
    match llvm {
        None if clang => bail!("{shown}: the kernel was built with clang: add LLVM=1"),
        Some(_) if !clang => bail!("{shown}: the kernel was built with gcc: leave out LLVM="),
        _ => (),
    }
    check_rustc(&config, rustc).with_context(|| shown.clone())?;
    let metadata = ["core", "kernel", "bindings", "macros"].iter().all(|name| {
        in_build(&format!("rust/lib{name}.rmeta")).is_file()
            || in_build(&format!("rust/lib{name}.so")).is_file()
    });
    if !metadata {
        bail!(
            "{shown}: no Rust metadata (rust/*.rmeta), as in headers packages: run \
             `make{build_with} modules_prepare` in the kernel tree"
        );
    }
    if !in_build("Module.symvers").is_file() {
        bail!("{shown}: no Module.symvers: build the kernel and its modules (`make{build_with}`)");
    }
    let release = fs::read_to_string(in_build("include/config/kernel.release"))
        .with_context(|| format!("{shown}: run `make{build_with} modules_prepare` there"))?
        .trim()
        .to_owned();
    let images = arch.names().images;
    let image = images
        .iter()
        .map(|name| in_build(name))
        .find(|image| image.is_file());
    if boot {
        if image.is_none() {
            bail!(
                "{shown}: nothing to boot (no {}): run `make{build_with}` there",
                images.join(", no ")
            );
        }
        if !in_build("modules.order").is_file() {
            bail!("{shown}: no modules.order: run `make{build_with} modules` there");
        }
    }
    let source = match fs::read_link(in_build("source")) {
        Err(_) => dir.clone(),
        Ok(source) => source.canonicalize().with_context(|| {
            format!(
                "{shown}: made from the source tree {}, which is not there",
                source.display()
            )
        })?,
    };
    Ok(Manifest {
        flavour: OWN.into(),
        release,
        source,
        image,
        modules: dir.clone(),
        make: make_variables(&config, arch, llvm),
        check: Check::default(),
        build: dir,
    })
}

fn make_variables(config: &Config, arch: Arch, llvm: Option<&str>) -> BTreeMap<String, String> {
    let mut variables = Vec::new();
    match llvm {
        Some(llvm) => variables.push(("LLVM", llvm.to_owned())),
        None => {
            // The first word is the command that the kernel was compiled with.
            let cc = config
                .get("CC_VERSION_TEXT")
                .and_then(|text| text.split(' ').next())
                .unwrap_or("gcc");
            variables.push(("CC", cc.to_owned()));
            if !arch.is_host() {
                variables.push(("CROSS_COMPILE", format!("{}-", arch.names().triple)));
            }
        }
    }
    if !arch.is_host() {
        variables.push(("ARCH", arch.names().kernel.to_owned()));
    }
    let variables = variables.into_iter();
    variables
        .map(|(name, value)| (name.into(), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_options_count() {
        let base = "# a comment\nCONFIG_A=y\nCONFIG_B=y\n\n# CONFIG_C is not set\n";
        let with = "# CONFIG_A is not set\nCONFIG_C=m\n# CONFIG_D=y is for others\n";
        assert_eq!(
            override_options(base, with),
            format!("# a comment\nCONFIG_B=y\n\n{with}")
        );
        assert_eq!(override_options(base, ""), base);
    }

    const RUSTC: &str = "rustc 1.85.1 (4eb161250 2025-03-15)";
    const CONFIG: &str = "\
CONFIG_CC_VERSION_TEXT=\"gcc-14 (Debian 14.2.0-19) 14.2.0\"
CONFIG_MODULES=y
CONFIG_PCI_P2PDMA=y
CONFIG_RUST=y
CONFIG_RUSTC_VERSION_TEXT=\"rustc 1.85.1 (4eb161250 2025-03-15)\"
CONFIG_X86_64=y
# CONFIG_KASAN is not set
";
    const FILES: [(&str, &str); 9] = [
        (".config", CONFIG),
        ("Module.symvers", ""),
        ("modules.order", ""),
        ("arch/x86/boot/bzImage", ""),
        ("include/config/kernel.release", "7.3.0-own\n"),
        ("rust/libcore.rmeta", ""),
        ("rust/libkernel.rmeta", ""),
        ("rust/libbindings.rmeta", ""),
        ("rust/libmacros.so", ""),
    ];

    /// A tree with what a built kernel has, but for `without`.
    fn tree(without: &str, config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary directory");
        for (name, content) in FILES.iter().filter(|(name, _)| *name != without) {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("not the root")).expect("made");
            fs::write(path, if *name == ".config" { config } else { content }).expect("written");
        }
        dir
    }

    fn error(without: &str, config: &str, llvm: Option<&str>, boot: bool) -> String {
        let dir = tree(without, config);
        format!(
            "{:#}",
            check(dir.path(), llvm, boot, RUSTC).expect_err("not fit")
        )
    }

    #[test]
    fn options_that_were_not_taken_are_named() {
        let config =
            Config::parse("CONFIG_A=y\nCONFIG_B=\"x y\"\nCONFIG_C=m\n# CONFIG_D is not set\n");
        let lacks = |fragment| config.lacks(fragment).expect("a fragment");
        let good = "# some words\n\nCONFIG_A=y\nCONFIG_B=\"x y\"\n# CONFIG_D is not set\n\
                    # CONFIG_E is not set\n";
        assert!(lacks(good).is_empty());
        assert_eq!(
            lacks("CONFIG_C=y\nCONFIG_E=y\nCONFIG_D=17\n# CONFIG_A is not set\n"),
            [
                "CONFIG_C=y",
                "CONFIG_E=y",
                "CONFIG_D=17",
                "CONFIG_A is not set"
            ]
        );
        assert!(config.lacks("A=y\n").is_err());
    }

    #[test]
    fn built_tree_is_described() {
        let dir = tree("", CONFIG);
        let manifest = check(dir.path(), None, true, RUSTC).expect("fit");
        assert_eq!(manifest.release, "7.3.0-own");
        assert_eq!(manifest.source, manifest.build);
        assert_eq!(manifest.make["CC"], "gcc-14");
        assert!(manifest
            .image
            .is_some_and(|image| image.ends_with("arch/x86/boot/bzImage")));
    }

    #[test]
    fn source_of_a_separate_build_directory_is_found() {
        let (source, build) = (tree("", CONFIG), tree("", CONFIG));
        std::os::unix::fs::symlink(source.path(), build.path().join("source")).expect("linked");
        let manifest = check(build.path(), None, false, RUSTC).expect("fit");
        assert_eq!(
            manifest.source,
            source.path().canonicalize().expect("there")
        );
    }

    #[test]
    fn source_that_has_moved_away_is_named() {
        let build = tree("", CONFIG);
        std::os::unix::fs::symlink("/moved/away", build.path().join("source")).expect("linked");
        let error = check(build.path(), None, false, RUSTC).expect_err("no source");
        assert!(error.to_string().contains("/moved/away"), "{error}");
    }

    #[test]
    fn each_lack_has_its_own_message() {
        let without = |file| error(file, CONFIG, None, true);
        assert!(without(".config").contains("not a configured kernel tree"));
        assert!(without("rust/libkernel.rmeta").contains("modules_prepare"));
        assert!(without("rust/libmacros.so").contains("modules_prepare"));
        assert!(without("Module.symvers").contains("no Module.symvers"));
        assert!(without("arch/x86/boot/bzImage").contains("nothing to boot"));
        assert!(without("modules.order").contains("no modules.order"));
    }

    #[test]
    fn only_booting_needs_an_image() {
        let dir = tree("arch/x86/boot/bzImage", CONFIG);
        assert_eq!(
            check(dir.path(), None, false, RUSTC).expect("fit").image,
            None
        );
    }

    #[test]
    fn configuration_must_fit() {
        let with = |from, to| error("", &CONFIG.replace(from, to), None, false);
        assert!(with("CONFIG_RUST=y", "# CONFIG_RUST is not set").contains("CONFIG_RUST=y"));
        assert!(with("CONFIG_PCI_P2PDMA=y", "").contains("CONFIG_PCI_P2PDMA=y"));
        let other = with("rustc 1.85.1", "rustc 1.90.0");
        assert!(
            other.contains("1.90.0") && other.contains("1.85.1"),
            "{other}"
        );
    }

    #[test]
    fn compiler_family_must_fit() {
        let clang = format!("{CONFIG}CONFIG_CC_IS_CLANG=y\n");
        assert!(error("", &clang, None, false).contains("add LLVM=1"));
        assert!(error("", CONFIG, Some("1"), false).contains("leave out LLVM="));
        let dir = tree("", &clang);
        let manifest = check(dir.path(), Some("1"), false, RUSTC).expect("fit");
        assert_eq!(manifest.make["LLVM"], "1");
    }

    #[test]
    fn architecture_is_that_of_the_tree() {
        let arm64 = format!("{CONFIG}CONFIG_CC_IS_CLANG=y\n").replace("X86_64", "ARM64");
        let dir = tree("", &arm64);
        let no_image = check(dir.path(), Some("1"), true, RUSTC).expect_err("of another one");
        assert!(no_image.to_string().contains("no arch/arm64/boot/Image"));
        let image = dir.path().join("arch/arm64/boot/Image");
        fs::create_dir_all(image.parent().expect("not the root")).expect("made");
        fs::write(&image, "").expect("written");
        let manifest = check(dir.path(), Some("1"), true, RUSTC).expect("fit");
        assert!(manifest
            .image
            .is_some_and(|found| found.ends_with("arm64/boot/Image")));
        let named = manifest.make.get("ARCH").map(String::as_str);
        assert_eq!(named, (!Arch::Arm64.is_host()).then_some("arm64"));

        let other = error("", &CONFIG.replace("X86_64", "RISCV"), None, true);
        assert!(
            other.contains("another architecture than x86_64 and arm64"),
            "{other}"
        );
    }

    #[test]
    fn directory_that_is_not_there_is_named() {
        let error = check(Path::new("/nonexistent"), None, false, RUSTC).expect_err("missing");
        assert!(error
            .to_string()
            .contains("/nonexistent: no such directory"));
    }

    #[test]
    fn changed_options_are_found_but_for_tool_versions() {
        let before =
            Config::parse("CONFIG_A=y\nCONFIG_B=m\nCONFIG_GCC_VERSION=1\nCONFIG_RUSTC_VERSION=1\n");
        let after =
            Config::parse("CONFIG_A=y\nCONFIG_C=y\nCONFIG_GCC_VERSION=2\nCONFIG_RUSTC_VERSION=2\n");
        assert_eq!(
            before.lost_in(&after).collect::<Vec<_>>(),
            ["B", "RUSTC_VERSION"]
        );
    }
}
