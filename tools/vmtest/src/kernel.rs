// SPDX-License-Identifier: GPL-2.0

//! The kernel to boot: where its image and its modules are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use p2pdma_common::{Arch, Check, Manifest, OWN};

/// A kernel, with its modules by name.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// For people: `stock`, `debug`, `custom`.
    pub flavour: String,
    /// What `uname -r` says in it.
    pub release: String,
    /// What it runs on.
    pub arch: Arch,
    /// What QEMU boots.
    pub image: PathBuf,
    /// Loadable modules, by name.
    pub modules: BTreeMap<String, PathBuf>,
    /// Modules that are part of the image.
    pub builtin: BTreeSet<String>,
    /// How tests are run on it, where nobody says otherwise.
    pub check: Check,
}

/// Flavours of kernels that the testbed has not described.
const CUSTOM: &str = "custom";
const INSTALLED: &str = "installed";

impl Kernel {
    /// Whether it is the user's, who decides what it has.
    pub fn is_own(&self) -> bool {
        matches!(&*self.flavour, OWN | CUSTOM | INSTALLED)
    }

    /// Opens a `kernel.json`, a directory with one, a kernel build tree, or
    /// `/lib/modules/<release>`.
    pub fn open(path: &Path) -> Result<Self> {
        let json = path.join("kernel.json");
        if path.is_file() {
            Self::described(path)
        } else if json.is_file() {
            Self::described(&json)
        } else if path.join("include/config/kernel.release").is_file() {
            Self::build_tree(path)
        } else if path.join("modules.builtin").is_file() && path.join("vmlinuz").is_file() {
            let release = fs::canonicalize(path)?
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            Self::installed(INSTALLED.into(), release, path.join("vmlinuz"), path)
        } else if path.exists() {
            bail!(
                "{}: neither a kernel.json, nor a built kernel tree (no \
                 include/config/kernel.release), nor a /lib/modules/<release> with a vmlinuz",
                path.display()
            )
        } else {
            bail!("{}: no such kernel", path.display())
        }
    }

    fn described(json: &Path) -> Result<Self> {
        let text = fs::read_to_string(json).with_context(|| json.display().to_string())?;
        let manifest: Manifest = serde_json::from_str(&text)
            .with_context(|| format!("{} does not describe a kernel", json.display()))?;
        let mut kernel = if manifest.modules.join("include/config").is_dir() {
            Self::build_tree(&manifest.modules)?
        } else {
            let image = manifest
                .image
                .ok_or_else(|| anyhow!("{} names no image to boot", json.display()))?;
            Self::installed(String::new(), manifest.release, image, &manifest.modules)?
        };
        kernel.flavour = manifest.flavour;
        kernel.check = manifest.check;
        Ok(kernel)
    }

    fn installed(flavour: String, release: String, image: PathBuf, tree: &Path) -> Result<Self> {
        let mut modules = BTreeMap::new();
        for top in ["kernel", "updates", "extra"] {
            walk(&tree.join(top), &mut |file| {
                if let Some(name) = module_name(&file) {
                    modules.insert(name, file);
                }
            });
        }
        Self {
            flavour,
            release,
            arch: image_arch(&image).unwrap_or(Arch::HOST),
            image,
            modules,
            builtin: builtin(tree),
            check: Check::default(),
        }
        .checked()
    }

    fn build_tree(tree: &Path) -> Result<Self> {
        let release = fs::read_to_string(tree.join("include/config/kernel.release"))?;
        let order = fs::read_to_string(tree.join("modules.order")).unwrap_or_default();
        let modules = order
            .lines()
            .map(|line| tree.join(line.trim()).with_extension("ko"))
            .filter(|file| file.is_file())
            .filter_map(|file| Some((module_name(&file)?, file)))
            .collect();
        let images = |arch: Arch| {
            let paths = arch.names().images.iter();
            paths.map(move |image| (arch, tree.join(image)))
        };
        let (arch, image) = Arch::ALL
            .into_iter()
            .flat_map(images)
            .find(|(_, image)| image.is_file())
            .unwrap_or((Arch::HOST, tree.join(Arch::HOST.names().images[0])));
        Self {
            flavour: CUSTOM.into(),
            release: release.trim().into(),
            arch,
            image,
            modules,
            builtin: builtin(tree),
            check: Check::default(),
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        if !self.image.is_file() {
            bail!(
                "{}: no kernel image there; build the kernel first (`make {} modules` in its \
                 tree)",
                self.image.display(),
                self.arch.names().image_target,
            );
        }
        Ok(self)
    }
}

fn image_arch(image: &Path) -> Option<Arch> {
    let mut start = Vec::new();
    let file = File::open(image).ok()?;
    file.take(64 << 10).read_to_end(&mut start).ok()?;
    Arch::of_image(&start)
}

/// `kernel/drivers/nvme/host/nvme-core.ko.xz` is the module `nvme_core`.
pub fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (stem, suffix) = file.split_once(".ko")?;
    matches!(suffix, "" | ".xz" | ".zst" | ".gz").then(|| stem.replace('-', "_"))
}

fn builtin(tree: &Path) -> BTreeSet<String> {
    fs::read_to_string(tree.join("modules.builtin"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| module_name(Path::new(line)))
        .collect()
}

/// Calls `visit` with every file below `directory`; what cannot be read is not there.
pub fn walk(directory: &Path, visit: &mut dyn FnMut(PathBuf)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), visit),
            Ok(_) => visit(entry.path()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        let name = |path: &str| module_name(Path::new(path));
        assert_eq!(name("a/nvme-core.ko.xz").as_deref(), Some("nvme_core"));
        assert_eq!(name("p2pdma.ko").as_deref(), Some("p2pdma"));
        assert_eq!(name("x.ko.zst").as_deref(), Some("x"));
        assert_eq!(name("x.ko.txt"), None);
        assert_eq!(name("x.o"), None);
    }

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().expect("has a parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    #[test]
    fn a_build_tree_is_found_through_modules_order() {
        let tree = tempfile::tempdir().expect("tempdir");
        let root = tree.path();
        put(root.join("include/config/kernel.release"), "7.3.4-own\n");
        put(root.join("modules.order"), "fs/ext4/ext4.o\nlost/lost.o\n");
        put(root.join("fs/ext4/ext4.ko"), "");
        put(
            root.join("modules.builtin"),
            "kernel/drivers/nvme/host/nvme.ko\n",
        );
        let error = Kernel::open(root).expect_err("no image yet").to_string();
        assert!(error.contains("build the kernel first"), "{error}");
        put(root.join("arch/x86/boot/bzImage"), "");
        let kernel = Kernel::open(root).expect("opens");
        assert_eq!(kernel.release, "7.3.4-own");
        assert!(kernel.is_own());
        assert_eq!(
            kernel.modules.keys().collect::<Vec<_>>(),
            [&"ext4".to_string()]
        );
        assert!(kernel.builtin.contains("nvme"));
    }

    #[test]
    fn a_description_says_how_a_kernel_is_tested() {
        let tree = tempfile::tempdir().expect("tempdir");
        let root = tree.path();
        put(
            root.join("build/include/config/kernel.release"),
            "7.3.4-d\n",
        );
        put(root.join("build/arch/x86/boot/bzImage"), "");
        let text = serde_json::json!({
            "flavour": "debug",
            "release": "7.3.4-d",
            "source": root,
            "build": root.join("build"),
            "image": root.join("build/arch/x86/boot/bzImage"),
            "modules": root.join("build"),
            "check": { "topologies": ["switch"], "timeout-scale": 8.0, "kmemleak": true },
        });
        put(root.join("kernel.json"), &text.to_string());
        let kernel = Kernel::open(root).expect("opens");
        assert_eq!(kernel.flavour, "debug");
        assert!(!kernel.is_own());
        assert_eq!(kernel.check.topologies, ["switch"]);
        assert_eq!(kernel.check.timeout_scale, Some(8.0));
        assert!(kernel.check.kmemleak);
        // A key that nobody knows is not passed over.
        let text = text.to_string().replace("timeout-scale", "time-scale");
        put(root.join("kernel.json"), &text);
        let error = format!("{:#}", Kernel::open(root).expect_err("unknown key"));
        assert!(error.contains("time-scale"), "{error}");
    }

    #[test]
    fn what_is_no_kernel_is_said() {
        let tree = tempfile::tempdir().expect("tempdir");
        let error = Kernel::open(tree.path()).expect_err("empty").to_string();
        assert!(error.contains("neither a kernel.json"), "{error}");
        let error = Kernel::open(&tree.path().join("gone")).expect_err("absent");
        assert!(error.to_string().contains("no such kernel"));
        put(tree.path().join("kernel.json"), "{}");
        let error = format!("{:#}", Kernel::open(tree.path()).expect_err("incomplete"));
        assert!(error.contains("does not describe a kernel"), "{error}");
    }
}
