// SPDX-License-Identifier: GPL-2.0

//! Kernel modules: what they need, in which order they load, and their plain images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail, Context, Result};
use object::{Object, ObjectSection};

use crate::kernel::{module_name, walk, Kernel};

/// A module ready to be put into the initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name, as `lsmod` shows it.
    pub name: String,
    /// Parameters that the topology or test gives it.
    pub params: String,
    /// The `.ko`, not compressed.
    pub bytes: Vec<u8>,
}

/// Where modules are looked for: the project's own come first, then the kernel's.
#[derive(Debug)]
pub struct Library<'a> {
    kernel: &'a Kernel,
    own: BTreeMap<String, PathBuf>,
    own_directory: Option<&'a Path>,
}

impl<'a> Library<'a> {
    /// Indexes every `*.ko` below `own`.
    pub fn new(kernel: &'a Kernel, own: Option<&'a Path>) -> Self {
        let mut modules = BTreeMap::new();
        if let Some(directory) = own {
            walk(directory, &mut |file| {
                if let Some(name) = module_name(&file) {
                    modules.insert(name, file);
                }
            });
        }
        Self {
            kernel,
            own: modules,
            own_directory: own,
        }
    }

    /// Reads the modules named by `wanted` (`"name param=value …"`) and what they depend on, each
    /// after its dependencies. Modules that are built in, or in `have` already, are left out.
    pub fn resolve(&self, wanted: &[String], have: &mut BTreeSet<String>) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for entry in wanted {
            let (name, params) = entry.split_once(' ').unwrap_or((entry, ""));
            self.add(&name.replace('-', "_"), params.trim(), have, &mut images)?;
        }
        Ok(images)
    }

    /// The first of `wanted` that is nowhere; their dependencies are not looked at.
    pub fn lacks(&self, wanted: &[String]) -> Option<String> {
        let name = |entry: &String| entry.split(' ').next().unwrap_or(entry).replace('-', "_");
        wanted.iter().map(name).find(|name| {
            !self.own.contains_key(name)
                && !self.kernel.modules.contains_key(name)
                && !self.kernel.builtin.contains(name)
        })
    }

    /// Whether each of `wanted` is somewhere; their dependencies are not looked at.
    pub fn check(&self, wanted: &[String]) -> Result<()> {
        self.lacks(wanted)
            .map_or(Ok(()), |name| Err(self.missing(&name)))
    }

    fn add(
        &self,
        name: &str,
        params: &str,
        have: &mut BTreeSet<String>,
        images: &mut Vec<Image>,
    ) -> Result<()> {
        if have.contains(name) {
            return Ok(());
        }
        let own = self.own.get(name);
        let Some(path) = own.or_else(|| self.kernel.modules.get(name)) else {
            if self.kernel.builtin.contains(name) {
                return Ok(());
            }
            return Err(self.missing(name));
        };
        // Entered before its dependencies, so that a circle of them ends.
        have.insert(name.into());
        let bytes = read_module(path)?;
        let info = modinfo(&bytes).with_context(|| path.display().to_string())?;
        if let Some(release) = info.release() {
            if release != self.kernel.release {
                bail!(
                    "{} was built for kernel {release}, and this is {}; run `make modules` for it",
                    path.display(),
                    self.kernel.release
                );
            }
        }
        for dependency in info.depends() {
            self.add(&dependency, "", have, images)
                .with_context(|| format!("needed by module {name}"))?;
        }
        images.push(Image {
            name: name.into(),
            params: params.into(),
            bytes,
        });
        Ok(())
    }

    fn missing(&self, name: &str) -> anyhow::Error {
        let own = match self.own_directory {
            Some(directory) => format!(", nor under {}", directory.display()),
            None => String::new(),
        };
        anyhow!(
            "module {name} is neither part of kernel {}{own}; if it is one of the project's, \
             `make modules` builds it",
            self.kernel.release
        )
    }
}

/// Reads a module, and unpacks it by the suffix of its name.
pub fn read_module(path: &Path) -> Result<Vec<u8>> {
    let packed = fs::read(path).with_context(|| path.display().to_string())?;
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some(suffix @ ("xz" | "zst" | "gz")) => unpack_by_suffix(&packed, suffix)
            .with_context(|| format!("{} cannot be unpacked", path.display())),
        _ => Ok(packed),
    }
}

/// Unpacks what was packed as files with this suffix are.
pub fn unpack_by_suffix(packed: &[u8], suffix: &str) -> Result<Vec<u8>> {
    match suffix {
        "xz" => {
            let mut plain = Vec::with_capacity(packed.len() * 4);
            lzma_rs::xz_decompress(&mut &*packed, &mut plain)
                .map(|()| plain)
                .map_err(|error| anyhow!("{error:?}"))
        }
        "zst" => unpack(ruzstd::StreamingDecoder::new(packed)?),
        "gz" => unpack(flate2::read::GzDecoder::new(packed)),
        _ => bail!("nobody knows how .{suffix} is packed"),
    }
}

fn unpack(mut reader: impl Read) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.read_to_end(&mut plain)?;
    Ok(plain)
}

/// The `.modinfo` section of a module.
#[derive(Debug, Default)]
pub struct ModInfo(Vec<(String, String)>);

impl ModInfo {
    /// Parses the section's zero-terminated `key=value` strings.
    pub fn parse(section: &[u8]) -> Self {
        Self(
            section
                .split(|&byte| byte == 0)
                .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The modules that must be loaded before this one.
    pub fn depends(&self) -> Vec<String> {
        self.get("depends")
            .unwrap_or_default()
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect()
    }

    /// The kernel release it was built for.
    pub fn release(&self) -> Option<&str> {
        self.get("vermagic")?.split(' ').next()
    }
}

/// Reads the `.modinfo` section of a module.
pub fn modinfo(module: &[u8]) -> Result<ModInfo> {
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(module)
        .context("not a kernel module")?;
    let section = file
        .section_by_name(".modinfo")
        .ok_or_else(|| anyhow!("not a kernel module: it has no .modinfo section"))?;
    Ok(ModInfo::parse(section.data()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p2pdma_common::{Arch, Check};

    #[test]
    fn modinfo_is_parsed() {
        let info = ModInfo::parse(
            b"license=GPL\0depends=nvme-core,p2pdma\0\0name=x\0vermagic=7.3.4+deb13-amd64 SMP\0",
        );
        assert_eq!(info.depends(), ["nvme_core", "p2pdma"]);
        assert_eq!(info.release(), Some("7.3.4+deb13-amd64"));
        assert!(ModInfo::parse(b"depends=\0").depends().is_empty());
        assert!(ModInfo::parse(b"\xff\xfe\0garbage").depends().is_empty());
        assert_eq!(ModInfo::parse(b"").release(), None);
    }

    #[test]
    fn garbage_is_no_module() {
        assert!(modinfo(b"").is_err());
        assert!(modinfo(&[0x7f; 4096]).is_err());
    }

    fn kernel() -> Kernel {
        Kernel {
            flavour: "test".into(),
            release: "7.3.4".into(),
            arch: Arch::X86_64,
            image: PathBuf::new(),
            modules: BTreeMap::new(),
            builtin: BTreeSet::from(["nvme".to_string()]),
            check: Check::default(),
        }
    }

    #[test]
    fn builtin_modules_are_left_out_and_missing_ones_named() {
        let kernel = kernel();
        let library = Library::new(&kernel, Some(Path::new("/nowhere")));
        let mut have = BTreeSet::new();
        let images = library
            .resolve(&["nvme poll_queues=1".into()], &mut have)
            .expect("built in");
        assert!(images.is_empty());
        let error = library
            .resolve(&["p2pdma-provider".into()], &mut have)
            .expect_err("missing")
            .to_string();
        assert!(error.contains("module p2pdma_provider"), "{error}");
        assert!(error.contains("make modules"), "{error}");
    }

    #[test]
    fn packed_modules_are_unpacked_and_broken_ones_named() {
        let directory = tempfile::tempdir().expect("tempdir");
        let plain = b"not an ELF file, but bytes all the same".repeat(100);
        let xz = directory.path().join("a.ko.xz");
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut plain.as_slice(), &mut packed).expect("packs");
        fs::write(&xz, &packed).expect("write");
        assert_eq!(read_module(&xz).expect("unpacks"), plain);
        fs::write(&xz, &packed[..packed.len() / 2]).expect("write");
        let error = read_module(&xz).expect_err("cut short").to_string();
        assert!(error.contains("a.ko.xz cannot be unpacked"), "{error}");
    }
}
