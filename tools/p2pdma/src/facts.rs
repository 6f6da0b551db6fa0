// SPDX-License-Identifier: GPL-2.0

//! What decides how fast and how well a pair does, and what of a function's memory can be provided.

use serde::Serialize;

use crate::bdf::Bdf;
use crate::config_space::{self, Bar, Link, Payload};
use crate::machine::number;
use crate::tree::Tree;

/// SR-IOV of a physical function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sriov {
    /// Virtual functions that it can have.
    pub total: u64,
    /// Virtual functions that it has.
    pub enabled: u64,
}

/// What is known of a function besides its place. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its link.
    pub link: Option<Link>,
    /// Sizes of packets.
    pub payload: Option<Payload>,
    /// Its memory BARs.
    pub bars: Vec<Bar>,
    /// The file of its directory in sysfs that says where these are; none if it is known from a
    /// text only.
    #[serde(skip)]
    pub bars_from: Option<&'static str>,
    /// Number of bits of the addresses that it can use for DMA, as its driver said.
    pub dma_mask_bits: Option<u32>,
    /// Number of its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Its virtual functions, if it can have any.
    pub sriov: Option<Sriov>,
    /// The physical function that it is a virtual one of.
    pub physical_function: Option<Bdf>,
    /// It does CXL as well.
    pub cxl: bool,
    /// The ACS capability word, where there is one and it could be read.
    pub acs_capability: Option<u16>,
}

/// A speed as sysfs writes it: `8.0 GT/s PCIe`, in millions of transfers.
fn speed(text: &str) -> Option<u32> {
    let (number, _) = text.split_once(" GT/s")?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let tenth: u32 = part.chars().next()?.to_digit(10)?;
    whole
        .parse::<u32>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(tenth * 100)
}

impl Facts {
    /// What a configuration space says.
    pub fn of_config(config: &[u8]) -> Self {
        let mut facts = Facts {
            link: config_space::link(config),
            payload: config_space::payload(config),
            bars: config_space::bars(config),
            cxl: config_space::is_cxl(config),
            acs_capability: config_space::acs_capability(config),
            ..Facts::default()
        };
        facts.resize(config);
        facts
    }

    /// Adds what is known of sizes that can be changed.
    fn resize(&mut self, config: &[u8]) {
        for resizable in config_space::resizable(config) {
            let bar = self.bars.iter_mut().find(|bar| bar.index == resizable.bar);
            if let Some(bar) = bar {
                bar.size = bar.size.or(Some(resizable.size));
                bar.resizable = Some(resizable);
            }
        }
    }

    /// The same, with what sysfs has in the directory of a function.
    pub fn read(tree: &Tree, dir: &str, config: &[u8]) -> Self {
        let mut facts = Self::of_config(config);
        facts.bars_from = Some("config");
        let text = |name: &str| tree.text(&format!("{dir}/{name}"));
        let number = |name: &str| number(&text(name)?);
        let sysfs_link = || {
            let width = |name| u8::try_from(number(name)?).ok();
            Some(Link {
                speed: speed(&text("current_link_speed")?)?,
                width: width("current_link_width").filter(|width| *width != 0)?,
                max_speed: speed(&text("max_link_speed")?)?,
                max_width: width("max_link_width")?,
            })
        };
        // others than root can read it there
        facts.link = facts.link.or_else(sysfs_link);
        if let Some(text) = text("resource") {
            let is_bridge = config.get(0x0e).is_some_and(|header| header & 0x7f != 0);
            facts.bars = config_space::resources(&text);
            facts.bars_from = Some("resource");
            facts.bars.retain(|bar| !is_bridge || bar.index < 2);
            facts.resize(config);
        }
        facts.dma_mask_bits = number("dma_mask_bits").and_then(|bits| u32::try_from(bits).ok());
        facts.sriov = number("sriov_totalvfs")
            .filter(|total| *total != 0)
            .map(|total| Sriov {
                total,
                enabled: number("sriov_numvfs").unwrap_or(0),
            });
        let physical = tree.link_name(&format!("{dir}/physfn"));
        facts.physical_function = physical.and_then(|name| name.parse().ok());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_space::fake::config;
    use crate::machine::fake::Fake;

    #[test]
    fn reads_sysfs() {
        let fake = Fake::new();
        let dir = fake.function(&["0000:00:04.0"], (0x8086, 0xe20b, 0x03_0000), "xe");
        for (name, content) in [
            ("current_link_speed", "32.0 GT/s PCIe\n"),
            ("current_link_width", "16\n"),
            ("max_link_speed", "64.0 GT/s PCIe\n"),
            ("max_link_width", "16\n"),
            ("dma_mask_bits", "46\n"),
            ("sriov_totalvfs", "24\n"),
            ("sriov_numvfs", "2\n"),
            (
                "resource",
                "0x0000004000000000 0x00000043ffffffff 0x000000000014220c\n",
            ),
        ] {
            fake.write(&format!("{dir}/{name}"), content);
        }
        // what the configuration space says of the link counts, if it can be read
        let root = fake.read();
        let facts = &root.devices.values().next().expect("a device").facts;
        assert_eq!(facts.link.map(|link| link.speed), Some(8000));
        fake.write(&format!("{dir}/config"), &config(0, None)[..64]);
        let user = fake.read();
        let facts = &user.devices.values().next().expect("a device").facts;
        let link = facts.link.expect("a link");
        assert_eq!(
            (link.speed, link.width, link.max_speed),
            (32_000, 16, 64_000)
        );
        assert_eq!(facts.dma_mask_bits, Some(46));
        let sriov = Sriov {
            total: 24,
            enabled: 2,
        };
        assert_eq!(facts.sriov, Some(sriov));
        let bar = &facts.bars[0];
        assert_eq!((bar.address, bar.size), (0x40_0000_0000, Some(16 << 30)));
        assert!(bar.prefetchable && bar.wide && !bar.unassigned);
        assert_eq!(facts.payload, None);
    }

    #[test]
    fn reads_speeds() {
        assert_eq!(speed("2.5 GT/s PCIe"), Some(2500));
        assert_eq!(speed("8 GT/s"), Some(8000));
        for text in ["Unknown", "", ". GT/s", "99999999 GT/s"] {
            assert_eq!(speed(text), None, "{text}");
        }
    }
}
