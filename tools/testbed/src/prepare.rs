// SPDX-License-Identifier: GPL-2.0

//! Makes a packaged kernel ready: packages fetched, unpacked, and Rust metadata made.
//!
//! The headers packages of distributions ship no Rust metadata, so modules in Rust cannot be built
//! with them. They can be made from the packaged source with the packaged configuration, by the
//! `modules_prepare` target and without compiling the kernel, and then agree with the packaged
//! kernel down to the mangled names.
//!
//! A build tree holds its own absolute path in many places, so it cannot be made elsewhere and
//! moved when complete. It is made in place, and `kernel.json` is written last: a directory
//! without it is what an interrupted run left, and is deleted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{anyhow, bail, Context, Result};
use p2pdma_common::Manifest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::apt;
use crate::cache::{remove_dir, write_whole, Cache};
use crate::flavour::{suite_here, Flavour, Origin, Packaged, Role};
use crate::kdir::{check_rustc, Config};
use crate::lock::{choose, releases, Choice, Lock, Pin};
use crate::manifest::cached;
use crate::step::Steps;

/// To be counted up when this file changes in a way that makes another kernel directory.
const RECIPE: u32 = 2;

/// Disk space that a prepared kernel needs while it is made.
const NEEDED: u64 = 3500 << 20;

/// What is used instead of a pinned release that the mirror no longer has.
#[derive(Deserialize, Serialize)]
struct Substitute {
    pinned: Pin,
    used: Pin,
}

/// What an earlier run has used instead of a pinned release is kept here.
fn substitute_file(cache: &Cache, flavour: &Flavour) -> PathBuf {
    let name = format!("{}.substitute.toml", flavour.name);
    cache.kernels().join(name)
}

/// The kernel of `flavour`, if it is ready.
pub fn ready(
    cache: &Cache,
    flavour: &Flavour,
    lock: &Lock,
    rustc: &str,
) -> Option<(Manifest, PathBuf)> {
    let pin = lock.0.get(&flavour.name)?;
    let used = substitute(&substitute_file(cache, flavour), pin);
    let kernel = Kernel::new(cache, flavour, used.as_ref().unwrap_or(pin), rustc);
    let manifest = kernel.ready()?;
    if let Some(used) = &used {
        tell_replaced(pin, used);
    }
    Some((manifest, kernel.manifest_file()))
}

/// Makes the kernel of `flavour` ready, if it is not yet, and tells where it is.
pub fn prepare(
    cache: &Cache,
    flavour: &Flavour,
    packaged: &Packaged,
    lock: &Lock,
    rustc: &str,
) -> Result<(Manifest, PathBuf)> {
    let _guard = cache.lock(&flavour.name)?;
    if let Some(ready) = ready(cache, flavour, lock, rustc) {
        return Ok(ready);
    }
    let pinned = lock.0.get(&flavour.name);
    let steps = Steps::new(cache.log(&format!("kernel-{}", flavour.name)))?;
    let mut offered = apt::offered()?;
    let known = pinned
        .is_some_and(|pin| matches!(choose(packaged, Some(pin), &offered), Ok(Choice::Pinned(_))));
    if !known {
        apt::update(&steps)?;
        offered = apt::offered()?;
    }
    let pin = match choose(packaged, pinned, &offered)? {
        Choice::Pinned(pin) => pin,
        Choice::Newest(pin) => {
            eprintln!(
                "testbed: kernel.lock has no {}: using kernel {}",
                flavour.name, pin.release
            );
            pin
        }
        Choice::Replaced(used) => {
            if let Some(pinned) = pinned {
                tell_replaced(pinned, &used);
                let record = Substitute {
                    pinned: pinned.clone(),
                    used: used.clone(),
                };
                let file = substitute_file(cache, flavour);
                write_whole(&file, toml::to_string(&record)?.as_bytes())?;
            }
            used
        }
    };
    let kernel = Kernel::new(cache, flavour, &pin, rustc);
    let manifest = match kernel.ready() {
        Some(manifest) => manifest,
        None => kernel.make(cache, &steps)?,
    };
    Ok((manifest, kernel.manifest_file()))
}

/// Writes the newest packages of every packaged flavour's series to the lock file; tells what
/// changed.
pub fn update_lock(cache: &Cache, flavours: &[Flavour], lock_file: &Path) -> Result<Vec<String>> {
    let _guard = cache.lock("update-lock")?;
    let old = Lock::load(lock_file)?;
    apt::update(&Steps::new(cache.log("update-lock"))?)?;
    let offered = apt::offered()?;
    let here = suite_here();
    let mut new = Lock(BTreeMap::new());
    let mut changes = Vec::new();
    for flavour in flavours {
        let Origin::Packaged(packaged) = &flavour.origin else {
            continue;
        };
        // What another Debian has is not to be seen from here.
        if flavour.suite != here {
            let pin = old.0.get(&flavour.name).cloned();
            new.0.extend(pin.map(|pin| (flavour.name.clone(), pin)));
            changes.push(format!(
                "{}: not looked for, it is of {}: `make update-lock FLAVOUR={}`",
                flavour.name, flavour.suite, flavour.name
            ));
            continue;
        }
        let (Choice::Newest(pin) | Choice::Pinned(pin) | Choice::Replaced(pin)) =
            choose(packaged, None, &offered)
                .with_context(|| format!("flavour {}", flavour.name))?;
        // Of all that follow a series, one need not be told that there is a newer one.
        let newer = packaged
            .series_offered(&offered)
            .into_iter()
            .filter(|series| deb_version::compare_versions(series, &pin.series).is_gt());
        let newer: Vec<String> = newer.collect();
        if let Some(newest) = newer.last().filter(|_| packaged.series.len() > 1) {
            eprintln!(
                "testbed: {}: the mirror has series {} too; `make update-lock SERIES={newest} \
                 FLAVOUR={}` tries it",
                flavour.name,
                newer.join(", "),
                flavour.name
            );
        }
        changes.push(match old.0.get(&flavour.name) {
            Some(old) if *old == pin => format!("{}: {} is the newest", flavour.name, pin.release),
            Some(old) => format!("{}: {} -> {}", flavour.name, old.version, pin.version),
            None => format!("{}: {}", flavour.name, pin.version),
        });
        new.0.insert(flavour.name.clone(), pin);
    }
    write_whole(lock_file, new.to_text()?.as_bytes())?;
    Ok(changes)
}

/// Pins the newest packages of `series` for `flavour`, which need not list it; tells what changed.
pub fn move_to(cache: &Cache, flavour: &Flavour, series: &str, lock: &mut Lock) -> Result<String> {
    let packaged = flavour.packaged()?;
    let _guard = cache.lock("update-lock")?;
    apt::update(&Steps::new(cache.log("update-lock"))?)?;
    let offered = apt::offered()?;
    let Some(pin) = releases(packaged, series, &offered).into_iter().next() else {
        bail!(
            "the Debian mirror has no complete set of packages of a kernel {series}; it has {}",
            packaged.series_offered(&offered).join(", ")
        );
    };
    let before = lock.0.get(&flavour.name);
    let before = before.map_or("nothing".into(), |pin| pin.version.clone());
    let told = format!("{}: {before} -> {}", flavour.name, pin.version);
    lock.0.insert(flavour.name.clone(), pin);
    Ok(told)
}

fn tell_replaced(pinned: &Pin, used: &Pin) {
    eprintln!(
        "testbed: the mirror no longer has kernel {} of kernel.lock ({}): using {} ({}); \
         `make update-lock` makes that permanent",
        pinned.release, pinned.version, used.release, used.version
    );
}

/// What an earlier run used instead of `pin`.
fn substitute(file: &Path, pin: &Pin) -> Option<Pin> {
    let record: Substitute = toml::from_str(&fs::read_to_string(file).ok()?).ok()?;
    (record.pinned == *pin).then_some(record.used)
}

/// A kernel in the cache.
struct Kernel<'a> {
    dir: PathBuf,
    flavour: &'a Flavour,
    pin: Pin,
    rustc: String,
}

impl<'a> Kernel<'a> {
    fn new(cache: &Cache, flavour: &'a Flavour, pin: &Pin, rustc: &str) -> Self {
        let key = key(flavour, pin, rustc);
        let dir = cache
            .kernels()
            .join(format!("{}-{}-{key}", flavour.name, pin.release));
        Self {
            dir,
            flavour,
            pin: pin.clone(),
            rustc: rustc.to_owned(),
        }
    }

    fn manifest_file(&self) -> PathBuf {
        self.dir.join("kernel.json")
    }

    /// Its description, if it is complete.
    fn ready(&self) -> Option<Manifest> {
        cached(&self.manifest_file(), &self.flavour.check)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes it, or leaves nothing behind.
    fn make(&self, cache: &Cache, steps: &Steps) -> Result<Manifest> {
        remove_dir(&self.dir)?;
        cache.require_free(NEEDED, "preparing a kernel")?;
        let made = self.make_all(steps);
        if made.is_err() {
            let _ = remove_dir(&self.dir);
        }
        made
    }

    fn make_all(&self, steps: &Steps) -> Result<Manifest> {
        let debs = self.path("debs");
        for dir in [
            &debs,
            &self.path("source"),
            &self.path("build"),
            &self.path("modules"),
        ] {
            fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        self.download(steps, &debs)?;

        let (source, build, modules) = (
            self.path("source"),
            self.path("build"),
            self.path("modules"),
        );
        // vmlinux holds nothing but the type information that that of modules is made against.
        let headers = [".config", "Module.symvers", "vmlinux"]
            .map(|file| format!("./usr/src/linux-headers-{}/{file}", self.pin.release));
        self.unpack(steps, Role::Headers, &headers, 4, &build)?;
        let packaged = Config::load(&build.join(".config"))?;
        check_rustc(&packaged, &self.rustc)
            .with_context(|| format!("kernel {}", self.pin.release))?;
        let symvers = fs::read(build.join("Module.symvers"))?;

        let tree = [format!("./usr/lib/modules/{}", self.pin.release)];
        thread::scope(|scope| {
            let modules = scope.spawn(|| {
                [Role::Base, Role::Modules, Role::Image]
                    .into_iter()
                    .try_for_each(|role| self.unpack(steps, role, &tree, 5, &modules))
            });
            self.unpack_source(steps, &source)?;
            self.modules_prepare(steps, &source, &build)?;
            modules
                .join()
                .map_err(|_| anyhow!("unpacking the modules panicked"))?
        })?;
        let prepared = Config::load(&build.join(".config"))?;
        let lost: Vec<&str> = packaged.lost_in(&prepared).collect();
        if !lost.is_empty() {
            bail!(
                "kernel {}: its configuration changed while it was prepared, modules would not fit \
                 it. A build dependency may be missing in the testbed. Options that changed: {}",
                self.pin.release,
                lost.join(", ")
            );
        }
        // modules_prepare has no symbols to list and leaves an empty one, or none.
        fs::write(build.join("Module.symvers"), symvers)?;
        remove_dir(&debs)?;

        let manifest = Manifest {
            flavour: self.flavour.name.clone(),
            release: self.pin.release.clone(),
            source,
            build,
            image: Some(self.path("modules/vmlinuz")),
            modules: self.path("modules"),
            make: self.make_variables(),
            check: self.flavour.check.clone(),
        };
        write_whole(
            &self.manifest_file(),
            &serde_json::to_vec_pretty(&manifest)?,
        )?;
        Ok(manifest)
    }

    fn make_variables(&self) -> BTreeMap<String, String> {
        let mut variables = self.flavour.make.clone();
        variables.insert("KERNELRELEASE".into(), self.pin.release.clone());
        variables
    }

    fn download(&self, steps: &Steps, debs: &Path) -> Result<()> {
        const MB: u64 = 1_000_000;
        let total: u64 = self.pin.packages.values().map(|package| package.size).sum();
        let mut command = Command::new("apt-get");
        command.current_dir(debs).arg("download");
        for package in self.pin.packages.values() {
            command.arg(format!("{}={}", package.name, self.pin.version));
        }
        let got = || {
            let files = fs::read_dir(debs).into_iter().flatten().flatten();
            let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
            format!("{} of {} MB", sizes.sum::<u64>() / MB, total / MB)
        };
        let name = format!(
            "downloading kernel {} ({} MB)",
            self.pin.release,
            total / MB
        );
        steps.pipe_with(&name, &mut [&mut command], got)
    }

    /// The downloaded file of a package.
    fn deb(&self, role: Role) -> Result<PathBuf> {
        let name = &self.pin.packages[&role].name;
        let prefix = format!("{name}_");
        for entry in fs::read_dir(self.path("debs"))? {
            let path = entry?.path();
            if path
                .file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(&prefix))
            {
                return Ok(path);
            }
        }
        bail!("apt-get has not downloaded {name}")
    }

    fn fsys_tarfile(&self, role: Role) -> Result<Command> {
        let mut command = Command::new("dpkg-deb");
        command.arg("--fsys-tarfile").arg(self.deb(role)?);
        Ok(command)
    }

    /// Unpacks members of a package, without the first `strip` components of their names.
    fn unpack(
        &self,
        steps: &Steps,
        role: Role,
        members: &[String],
        strip: usize,
        to: &Path,
    ) -> Result<()> {
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--no-same-owner", "--directory"])
            .arg(to)
            .arg(format!("--strip-components={strip}"))
            .args(members);
        let name = format!("unpacking {}", self.pin.packages[&role].name);
        steps.pipe(&name, &mut [&mut self.fsys_tarfile(role)?, &mut tar])
    }

    /// Unpacks the archive that the source package holds, without writing the archive itself.
    fn unpack_source(&self, steps: &Steps, to: &Path) -> Result<()> {
        let package = &self.pin.packages[&Role::Source].name;
        let mut archive = Command::new("tar");
        archive
            .args(["--extract", "--to-stdout"])
            .arg(format!("./usr/src/{package}.tar.xz"));
        let mut xz = Command::new("xz");
        xz.args(["--decompress", "--stdout", "--threads=0"]);
        let mut tar = Command::new("tar");
        tar.args([
            "--extract",
            "--no-same-owner",
            "--strip-components=1",
            "--directory",
        ])
        .arg(to);
        let name = format!("unpacking {package}");
        steps.pipe(
            &name,
            &mut [
                &mut self.fsys_tarfile(Role::Source)?,
                &mut archive,
                &mut xz,
                &mut tar,
            ],
        )
    }

    fn modules_prepare(&self, steps: &Steps, source: &Path, build: &Path) -> Result<()> {
        let mut make = kernel_make(source, build, &self.make_variables());
        make.arg("modules_prepare");
        let name = format!("making the Rust metadata of kernel {}", self.pin.release);
        steps.run(&name, &mut make)
    }
}

/// `make` in the kernel tree `source`, with its output in `build`.
pub fn kernel_make(source: &Path, build: &Path, variables: &BTreeMap<String, String>) -> Command {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut make = Command::new("make");
    make.current_dir(source)
        .arg(format!("-j{jobs}"))
        .arg(format!("O={}", build.display()))
        .args(
            variables
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
    // This is no part of the make that may have started us.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        make.env_remove(variable);
    }
    make
}

/// A name for all that decides what a prepared kernel holds.
fn key(flavour: &Flavour, pin: &Pin, rustc: &str) -> String {
    let hashes: Vec<&str> = pin
        .packages
        .values()
        .map(|package| package.sha256.as_str())
        .collect();
    let input = format!(
        "{RECIPE} {rustc} {:?} {hashes:?} {}",
        flavour.make, pin.version
    );
    short_hash(&input)
}

/// A short name for a text.
pub fn short_hash(text: &str) -> String {
    let mut digest = format!("{:x}", Sha256::digest(text.as_bytes()));
    digest.truncate(12);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flavour::tests::stock;
    use crate::lock::PinnedPackage;

    fn pin(hash: &str) -> Pin {
        let package = PinnedPackage {
            name: "linux-source-7.3".into(),
            size: 1,
            sha256: hash.into(),
        };
        Pin {
            series: "7.3".into(),
            release: "7.3.4+deb13-amd64".into(),
            version: "7.3.4-1".into(),
            packages: [(Role::Source, package)].into(),
        }
    }

    #[test]
    fn key_changes_with_what_goes_in() {
        let key_of = |hash: &str, rustc: &str| key(&stock(), &pin(hash), rustc);
        assert_eq!(key_of("a", "rustc 1"), key_of("a", "rustc 1"));
        assert_ne!(key_of("a", "rustc 1"), key_of("b", "rustc 1"));
        assert_ne!(key_of("a", "rustc 1"), key_of("a", "rustc 2"));
        assert_eq!(key_of("a", "rustc 1").len(), 12);
    }

    #[test]
    fn kernel_without_its_manifest_is_not_ready() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(dir.path()).expect("opened");
        let flavour = stock();
        let kernel = Kernel::new(&cache, &flavour, &pin("a"), "rustc 1");
        assert_eq!(kernel.ready(), None);
        fs::create_dir_all(kernel.path("build")).expect("made");
        assert_eq!(kernel.ready(), None);
        fs::write(kernel.manifest_file(), "{ half").expect("written");
        assert_eq!(kernel.ready(), None);
    }

    #[test]
    fn how_it_is_tested_is_read_anew() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = Cache::open(dir.path()).expect("opened");
        let mut flavour = stock();
        let manifest = Manifest {
            flavour: flavour.name.clone(),
            release: "7.3.4+deb13-amd64".into(),
            source: dir.path().join("source"),
            build: dir.path().join("build"),
            image: None,
            modules: dir.path().join("modules"),
            make: BTreeMap::new(),
            check: flavour.check.clone(),
        };
        flavour.check.topologies = vec!["switch".into()];
        let kernel = Kernel::new(&cache, &flavour, &pin("a"), "rustc 1");
        let text = serde_json::to_vec(&manifest).expect("valid");
        write_whole(&kernel.manifest_file(), &text).expect("written");
        let manifest = kernel.ready().expect("ready");
        assert_eq!(manifest.check.topologies, ["switch"]);
    }

    #[test]
    fn substitute_holds_for_the_same_pin_only() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("substitute");
        assert_eq!(substitute(&file, &pin("a")), None);
        let record = Substitute {
            pinned: pin("a"),
            used: pin("b"),
        };
        fs::write(&file, toml::to_string(&record).expect("valid")).expect("written");
        assert_eq!(substitute(&file, &pin("a")), Some(pin("b")));
        assert_eq!(substitute(&file, &pin("c")), None);
    }
}
