// SPDX-License-Identifier: GPL-2.0

//! Compiles a flavour's kernel from the source of a packaged one.
//!
//! The configuration is what a file of options says, and nothing else: all that is neither there
//! nor selected by an option that is, is off. As in `prepare`, the build tree cannot be moved, and
//! is complete when `kernel.json` is there. The compiler's output is kept by ccache as well, so
//! that a changed option costs only what depends on it.
//!
//! It is compiled from a copy of the source, whose files are links to it but for those that
//! patches change. Where that copy lies says nothing of the source, so that what ccache has of one
//! source is good for another one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{anyhow, bail, Context, Result};
use p2pdma_common::{Arch, Manifest};

use crate::cache::{remove_dir, write_whole, Cache};
use crate::flavour::{Compiled, Flavour};
use crate::kdir::{self, Config};
use crate::manifest::cached;
use crate::prepare::{kernel_make, short_hash};
use crate::step::Steps;

/// To be counted up when this file changes in a way that makes another kernel directory.
const RECIPE: u32 = 2;

/// Disk space that compiling a kernel needs.
const NEEDED: u64 = 3500 << 20;

/// What ccache may keep.
const CCACHE_SIZE: &str = "1G";

/// A compiled kernel in the cache.
pub struct Kernel<'a> {
    dir: PathBuf,
    flavour: &'a Flavour,
    fragment: PathBuf,
    options: String,
    patches: &'a [PathBuf],
    rustc: &'a str,
}

impl<'a> Kernel<'a> {
    /// The kernel that is compiled from the source of `base`, whose `kernel.json` is `base_file`.
    pub fn new(
        cache: &Cache,
        flavour: &'a Flavour,
        compiled: &'a Compiled,
        (base, base_file): &(Manifest, PathBuf),
        rustc: &'a str,
    ) -> Result<Self> {
        let fragment = compiled.fragment.clone();
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let mut options = read(&fragment)?;
        for file in &compiled.also {
            options = kdir::override_options(&options, &read(file)?);
        }
        // The name of that directory says which source it is.
        let source = base_file.parent().and_then(Path::file_name);
        let clang = clang_version()?;
        let mut patches = String::new();
        for patch in &compiled.patches {
            patches += &fs::read_to_string(patch)
                .with_context(|| format!("cannot read {}", patch.display()))?;
        }
        let key = short_hash(&format!(
            "{RECIPE} {rustc} {clang} {:?} {source:?} {options} {patches}",
            flavour.make
        ));
        let name = format!("{}-{}-{key}", flavour.name, base.release);
        Ok(Self {
            dir: cache.kernels().join(name),
            flavour,
            fragment,
            options,
            patches: &compiled.patches,
            rustc,
        })
    }

    fn manifest_file(&self) -> PathBuf {
        self.dir.join("kernel.json")
    }

    /// The kernel, if it is ready.
    pub fn ready(&self) -> Option<(Manifest, PathBuf)> {
        let file = self.manifest_file();
        Some((cached(&file, &self.flavour.check)?, file))
    }

    /// Makes the kernel ready, if it is not yet, and tells where it is.
    pub fn prepare(&self, cache: &Cache, source: &Path) -> Result<(Manifest, PathBuf)> {
        let _guard = cache.lock(&self.flavour.name)?;
        if let Some(ready) = self.ready() {
            return Ok(ready);
        }
        remove_dir(&self.dir)?;
        cache.require_free(NEEDED, "compiling a kernel")?;
        let made = self.make(cache, source);
        if made.is_err() {
            let _ = remove_dir(&self.dir);
        }
        made
    }

    fn make(&self, cache: &Cache, source: &Path) -> Result<(Manifest, PathBuf)> {
        let log = cache.log(&format!("kernel-{}", self.flavour.name));
        let steps = Steps::new(log.clone())?;
        let build = self.dir.join("build");
        fs::create_dir_all(&build).with_context(|| format!("cannot create {}", build.display()))?;
        let source = &self.copy_source(&steps, source)?;
        let mut variables = self.flavour.make.clone();
        let compiler = variables.get("CC").map_or("clang", String::as_str);
        variables.insert("CC".into(), format!("ccache {compiler}"));
        let make = || {
            let mut make = kernel_make(source, &build, &variables);
            make.env("CCACHE_DIR", cache.ccache())
                .env("CCACHE_MAXSIZE", CCACHE_SIZE)
                // What was compiled for one build directory is good for the next one.
                .env("CCACHE_BASEDIR", cache.kernels())
                .env("CCACHE_NOHASHDIR", "1");
            make
        };

        let name = &self.flavour.name;
        let fragment = self.dir.join("options.config");
        write_whole(&fragment, self.options.as_bytes())?;
        let arch = self.flavour.make.get("ARCH");
        let arch = match arch {
            Some(name) => Arch::ALL
                .into_iter()
                .find(|arch| arch.names().kernel == name)
                .ok_or_else(|| anyhow!("the flavour's ARCH={name} is none that is supported"))?,
            None => Arch::X86_64,
        };
        steps.run(
            &format!("configuring the kernel {name}"),
            make()
                .arg("allnoconfig")
                .env("KCONFIG_ALLCONFIG", &fragment),
        )?;
        let config = Config::load(&build.join(".config"))?;
        let lost = config.lacks(&self.options)?;
        if !lost.is_empty() {
            bail!(
                "{}: options that this kernel does not have, or that depend on others: {}",
                self.fragment.display(),
                lost.join(", ")
            );
        }
        steps.pipe_with(
            &format!("compiling the kernel {name} (once, 15 to 40 minutes on two cores)"),
            &mut [make().args([arch.names().image_target, "modules"])],
            || compiled_so_far(&log, &build),
        )?;
        prune(&build)?;

        let llvm = self.flavour.make.get("LLVM").map(String::as_str);
        let mut manifest = kdir::check(&build, llvm, true, self.rustc)?;
        manifest.flavour.clone_from(name);
        manifest.check = self.flavour.check.clone();
        let file = self.manifest_file();
        write_whole(&file, &serde_json::to_vec_pretty(&manifest)?)?;
        Ok((manifest, file))
    }
}

impl Kernel<'_> {
    /// Makes a copy of the source, and patches it.
    fn copy_source(&self, steps: &Steps, source: &Path) -> Result<PathBuf> {
        let copy = self.dir.join("source");
        let mut link = Command::new("cp");
        link.args(["--archive", "--link"]).arg(source).arg(&copy);
        steps.run("copying the kernel's source", &mut link)?;
        for file in self.patches {
            // What it changes it writes anew, so that the original stays as it is.
            let mut patch = Command::new("patch");
            patch
                .args([
                    "--strip=1",
                    "--batch",
                    "--forward",
                    "--no-backup-if-mismatch",
                ])
                .arg("--directory")
                .arg(&copy)
                .arg("--input")
                .arg(file);
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            steps.run(&format!("applying the patch {name}"), &mut patch)?;
        }
        Ok(copy)
    }
}

fn clang_version() -> Result<String> {
    let output = Command::new("clang")
        .arg("--version")
        .output()
        .context("cannot run clang --version")?;
    let text = String::from_utf8(output.stdout)?;
    let first = text.lines().next();
    Ok(first
        .ok_or_else(|| anyhow!("clang --version says nothing"))?
        .to_owned())
}

/// How far a build is, by what Kbuild has said: one line for each object.
fn compiled_so_far(log: &Path, build: &Path) -> String {
    let lines = fs::File::open(log)
        .map(|file| BufReader::new(file).lines().map_while(Result::ok))
        .into_iter()
        .flatten();
    let mut objects = lines.filter_map(|line| {
        let (what, object) = line.strip_prefix("  ")?.split_once(' ')?;
        let compiled = matches!(what, "CC" | "AS" | "RUSTC" | "HOSTCC");
        compiled.then(|| {
            object
                .trim_start_matches([' ', 'L', '[', 'M', ']'])
                .to_owned()
        })
    });
    match objects.by_ref().enumerate().last() {
        Some((count, last)) => {
            let last = Path::new(&last);
            let last = last.strip_prefix(build).unwrap_or(last);
            format!("{} objects, {}", count + 1, last.display())
        }
        None => "nothing compiled yet".into(),
    }
}

/// Deletes what neither building modules nor booting needs: most of the tree.
fn prune(build: &Path) -> Result<()> {
    let walk = || -> std::io::Result<()> {
        for entry in fs::read_dir(build)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                // Programs that a build of modules runs, with what they are made again from.
                if name != "scripts" && name != "tools" {
                    prune_objects(&entry.path())?;
                }
            } else if is_object(&name.to_string_lossy()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    walk().with_context(|| format!("cannot clean up {}", build.display()))
}

fn prune_objects(dir: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Links are left alone, and not followed: one leads to the source.
        if entry.file_type()?.is_dir() {
            prune_objects(&entry.path())?;
        } else if is_object(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file was only needed for making the kernel's image or a module.
fn is_object(name: &str) -> bool {
    [".o", ".a", ".cmd", ".mod", ".mod.c", ".o.d"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
        || name.starts_with("vmlinux")
        || name.starts_with(".tmp_vmlinux")
        || name.starts_with(".vmlinux")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavour::{tests::stock, Origin};
    use p2pdma_common::Check;

    fn put(path: &Path) {
        fs::create_dir_all(path.parent().expect("not the root")).expect("made");
        fs::write(path, "").expect("written");
    }

    #[test]
    fn what_modules_are_built_with_survives_pruning() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let kept = [
            ".config",
            "Module.symvers",
            "arch/x86/boot/bzImage",
            "drivers/block/loop.ko",
            "include/generated/autoconf.h",
            "modules.builtin",
            "modules.order",
            "rust/libkernel.rmeta",
            "rust/libmacros.so",
            "scripts/mod/modpost",
            "scripts/mod/modpost.o",
            "scripts/module.lds",
            "tools/objtool/objtool",
        ];
        let gone = [
            ".tmp_vmlinux1",
            ".vmlinux.export.c",
            "vmlinux",
            "vmlinux.a",
            "vmlinux.o",
            "arch/x86/boot/compressed/vmlinux.bin",
            "drivers/block/loop.o",
            "drivers/block/.loop.o.cmd",
            "drivers/block/loop.mod.c",
            "kernel/built-in.a",
            "rust/core.o",
        ];
        for name in kept.iter().chain(&gone) {
            put(&dir.path().join(name));
        }
        std::os::unix::fs::symlink("scripts", dir.path().join("source")).expect("linked");
        prune(dir.path()).expect("pruned");
        for name in kept {
            assert!(dir.path().join(name).is_file(), "{name}");
        }
        for name in gone {
            assert!(!dir.path().join(name).exists(), "{name}");
        }
    }

    #[test]
    fn progress_counts_what_was_compiled() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log");
        assert_eq!(compiled_so_far(&log, dir.path()), "nothing compiled yet");
        let text = "# compiling\nmake[1]: Entering\n  SYNC    include/config/auto.conf\n  \
                    CC      init/main.o\n  RUSTC PL rust/core.o\n  AR      built-in.a\n  \
                    CC [M]  drivers/block/loop.o\n  LD [M]  drivers/block/loop.ko\n";
        fs::write(&log, text).expect("written");
        let so_far = || compiled_so_far(&log, dir.path());
        assert_eq!(so_far(), "3 objects, drivers/block/loop.o");
        // Tools are named by their absolute paths.
        let tool = dir.path().join("tools/objtool/check.o");
        fs::write(&log, format!("  CC       {}\n", tool.display())).expect("written");
        assert_eq!(so_far(), "1 objects, tools/objtool/check.o");
    }

    /// A compiled flavour with these options, and the packaged kernel that it is made from.
    fn example(dir: &Path, options: &str) -> (Flavour, Compiled, (Manifest, PathBuf)) {
        let compiled = Compiled {
            base: "stock".into(),
            fragment: dir.join("fragment"),
            also: Vec::new(),
            patches: vec![dir.join("some.patch")],
        };
        fs::write(dir.join("some.patch"), "").expect("written");
        fs::write(&compiled.fragment, options).expect("written");
        let flavour = Flavour {
            name: "debug".into(),
            origin: Origin::Compiled(Compiled {
                base: "stock".into(),
                fragment: compiled.fragment.clone(),
                also: Vec::new(),
                patches: Vec::new(),
            }),
            ..stock()
        };
        let base = Manifest {
            flavour: "stock".into(),
            release: "7.3.4+deb13-amd64".into(),
            source: dir.join("source"),
            build: dir.join("build"),
            image: None,
            modules: dir.join("modules"),
            make: [].into(),
            check: Check::default(),
        };
        (flavour, compiled, (base, dir.join("stock-key/kernel.json")))
    }

    #[test]
    fn another_option_or_source_is_another_kernel() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(dir.path()).expect("opened");
        let (flavour, compiled, base) = example(dir.path(), "CONFIG_A=y\n");
        let path = |base: &(Manifest, PathBuf), rustc: &str| {
            let kernel = Kernel::new(&cache, &flavour, &compiled, base, rustc);
            kernel.expect("known").dir
        };
        let first = path(&base, "rustc 1");
        assert_eq!(first, path(&base, "rustc 1"));
        assert_ne!(first, path(&base, "rustc 2"));
        let name = first.file_name().expect("a name").to_string_lossy();
        assert!(name.starts_with("debug-7.3.4+deb13-amd64-"), "{name}");
        let other = (base.0.clone(), dir.path().join("stock-other/kernel.json"));
        assert_ne!(first, path(&other, "rustc 1"));
        fs::write(&compiled.fragment, "CONFIG_A=y\nCONFIG_B=y\n").expect("written");
        assert_ne!(first, path(&base, "rustc 1"));
        let second = path(&base, "rustc 1");
        fs::write(&compiled.patches[0], "--- a\n").expect("written");
        assert_ne!(second, path(&base, "rustc 1"));
    }

    #[test]
    fn how_it_is_tested_is_read_anew() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(dir.path()).expect("opened");
        let (mut flavour, compiled, base) = example(dir.path(), "");
        flavour.check.topologies = vec!["switch".into()];
        let kernel = Kernel::new(&cache, &flavour, &compiled, &base, "rustc 1").expect("known");
        assert!(kernel.ready().is_none());
        let text = serde_json::to_vec(&base.0).expect("valid");
        write_whole(&kernel.manifest_file(), &text).expect("written");
        let (manifest, _) = kernel.ready().expect("ready");
        assert_eq!(manifest.check.topologies, ["switch"]);
    }
}
