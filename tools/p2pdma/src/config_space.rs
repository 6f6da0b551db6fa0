// SPDX-License-Identifier: GPL-2.0

//! What a function's configuration space says about its place in the PCIe hierarchy.
//!
//! sysfs hands the whole of it to root only; others get the first 64 bytes, which hold no
//! capabilities. Everything here is therefore optional.

use std::ops::RangeInclusive;

use serde::Serialize;

/// PCIe capability: PCI Express.
const CAP_EXPRESS: u8 = 0x10;
/// Extended capability: Access Control Services.
const EXT_CAP_ACS: u16 = 0x000d;
/// Extended capability: Device Serial Number, which network cards make of their MAC address.
const EXT_CAP_SERIAL: u16 = 0x0003;
/// Extended capability: Resizable BAR.
const EXT_CAP_RESIZABLE: u16 = 0x0015;
/// Extended capability: Designated Vendor-Specific, as CXL has it.
const EXT_CAP_DVSEC: u16 = 0x0023;
/// The vendor of the capabilities of CXL.
const CXL: u16 = 0x1e98;
/// ACS control bits that send peer-to-peer requests up to the host bridge, as the kernel's
/// `pci_bridge_has_acs_redir()` has them: request redirect, completion redirect, egress control.
const ACS_REDIRECT: u16 = 0x0004 | 0x0008 | 0x0020;

/// What kind of PCIe function it is, from its PCI Express capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortType {
    /// An endpoint, also a legacy one.
    Endpoint,
    /// A root port of a root complex.
    RootPort,
    /// The port of a switch that faces the root complex.
    SwitchUpstream,
    /// A port of a switch that faces a device.
    SwitchDownstream,
    /// A bridge between PCIe and PCI, either way round.
    PciBridge,
    /// An endpoint within the root complex.
    RootComplexEndpoint,
    /// An event collector of the root complex.
    EventCollector,
}

fn word(config: &[u8], at: usize) -> Option<u16> {
    let bytes = config.get(at..at + 2)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn dword(config: &[u8], at: usize) -> Option<u32> {
    let bytes = config.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Offset of a capability in the first 256 bytes, or that the function does not have it.
///
/// `Err` if the list goes on after the bytes that were read.
fn find_capability(config: &[u8], id: u8) -> Result<Option<usize>, Unknown> {
    let byte = |at| config.get(at).copied().ok_or(Unknown);
    let has_list = word(config, 0x06).ok_or(Unknown)? & 0x10 != 0;
    if !has_list {
        return Ok(None);
    }
    let mut at = usize::from(byte(0x34)?) & !3;
    // a list that runs in circles ends after as many steps as there is room for entries
    for _ in 0..48 {
        if at < 0x40 {
            return Ok(None);
        }
        if byte(at)? == id {
            return Ok(Some(at));
        }
        at = usize::from(byte(at + 1)?) & !3;
    }
    Ok(None)
}

/// Offset of a capability, if there is one and it could be read.
fn capability(config: &[u8], id: u8) -> Option<usize> {
    find_capability(config, id).ok().flatten()
}

/// Offset of an extended capability, behind the first 256 bytes, or that the function does not have
/// it.
///
/// `Err` if the list goes on after the bytes that were read.
fn find_extended_capability(config: &[u8], id: u16) -> Result<Option<usize>, Unknown> {
    let mut at = 0x100;
    for _ in 0..480 {
        let header = dword(config, at).ok_or(Unknown)?;
        if header == 0 || header == u32::MAX {
            return Ok(None);
        }
        if header & 0xffff == u32::from(id) {
            return Ok(Some(at));
        }
        // 12 bits
        at = (header >> 20) as usize & !3;
        if at < 0x100 {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Offset of an extended capability, if there is one and it could be read.
fn extended_capability(config: &[u8], id: u16) -> Option<usize> {
    find_extended_capability(config, id).ok().flatten()
}

/// The kind of PCIe function, if it is one and the configuration space could be read.
pub fn port_type(config: &[u8]) -> Option<PortType> {
    let at = capability(config, CAP_EXPRESS)?;
    Some(match (word(config, at + 2)? >> 4) & 0xf {
        0x0 | 0x1 => PortType::Endpoint,
        0x4 => PortType::RootPort,
        0x5 => PortType::SwitchUpstream,
        0x6 => PortType::SwitchDownstream,
        0x7 | 0x8 => PortType::PciBridge,
        0x9 => PortType::RootComplexEndpoint,
        0xa => PortType::EventCollector,
        _ => return None,
    })
}

/// Whether there is nothing to be read: no bytes, or all of them ones, as from a device that is in
/// D3cold or gone.
pub fn is_unreadable(config: &[u8]) -> bool {
    config.iter().all(|byte| *byte == 0xff)
}

/// Who read a configuration space, which decides what it means that there is no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadBy {
    /// This program, from the running kernel, also if that was kept in a capture: after the first
    /// 256 bytes the function has no more, or the kernel cannot read it, and thus finds no ACS
    /// either.
    Us,
    /// The same, of a function of which the kernel says that it is no PCIe function: it has no ACS,
    /// however little was read.
    UsConventional,
    /// Somebody who made a copy of it, who may have stopped there.
    Others,
}

/// The ACS control word, or that the function has no ACS capability.
///
/// `Err` if that could not be found out: what was read ends before it would come.
pub fn acs_control(config: &[u8], read_by: ReadBy) -> Result<Option<u16>, Unknown> {
    if is_unreadable(config) || config.len() < 64 {
        return Err(Unknown);
    }
    let express = match find_capability(config, CAP_EXPRESS) {
        // what is there to be seen counts more than what the kernel says
        Err(Unknown) | Ok(None) if read_by == ReadBy::UsConventional => return Ok(None),
        found => found?,
    };
    if let Some(at) = express {
        word(config, at + 2).ok_or(Unknown)?;
    }
    let ends = match express {
        // conventional PCI has 256 bytes
        None => config.len() <= 256,
        Some(_) => config.len() == 256 && read_by != ReadBy::Others,
    };
    if ends {
        return Ok(None);
    }
    let found = find_extended_capability(config, EXT_CAP_ACS)?;
    found
        .map(|at| word(config, at + 6).ok_or(Unknown))
        .transpose()
}

/// It could not be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// Whether ACS sends peer-to-peer traffic that passes this function up to the host bridge.
///
/// `None` if that could not be read.
pub fn acs_redirect(config: &[u8], read_by: ReadBy) -> Option<bool> {
    let control = acs_control(config, read_by).ok()?;
    Some(control.is_some_and(|control| control & ACS_REDIRECT != 0))
}

/// A link between two functions, one lane of which moves `speed` million bits a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Transfers a second of a lane, in millions, such as 8000 for 8 GT/s.
    pub speed: u32,
    /// Lanes.
    pub width: u8,
    /// What the function could do, in millions of transfers.
    pub max_speed: u32,
    /// Lanes that the function has.
    pub max_width: u8,
}

/// Bytes that so many lanes of a speed move in a second and direction, in millions, after the
/// encoding of the link and before that of packets.
pub fn bandwidth(speed: u32, width: u8) -> u32 {
    let speed = u64::from(speed);
    let lane = match speed {
        // 8 of 10 bits, 128 of 130, and 242 of 256 bytes of a flit
        0..8_000 => speed * 8 / 10,
        8_000..64_000 => speed * 128 / 130,
        _ => speed * 242 / 256,
    };
    u32::try_from(lane * u64::from(width) / 8).unwrap_or(u32::MAX)
}

impl Link {
    /// Bytes a second and direction, in millions.
    pub fn bandwidth(self) -> u32 {
        bandwidth(self.speed, self.width)
    }

    /// The same if the function ran as fast as it can.
    pub fn max_bandwidth(self) -> u32 {
        bandwidth(self.max_speed, self.max_width)
    }
}

/// The link of a function towards its peer: upwards of an endpoint, downwards of a port.
pub fn link(config: &[u8]) -> Option<Link> {
    let at = capability(config, CAP_EXPRESS)?;
    // what is part of the root complex has no link
    if matches!((word(config, at + 2)? >> 4) & 0xf, 0x9 | 0xa) {
        return None;
    }
    let speed = |code: u32| {
        Some(match code & 0xf {
            1 => 2_500,
            2 => 5_000,
            3 => 8_000,
            4 => 16_000,
            5 => 32_000,
            6 => 64_000,
            _ => return None,
        })
    };
    let width = |word: u32| u8::try_from((word >> 4) & 0x3f).ok();
    let (can, is) = (dword(config, at + 0x0c)?, word(config, at + 0x12)?.into());
    Some(Link {
        speed: speed(is)?,
        width: width(is).filter(|width| *width != 0)?,
        max_speed: speed(can)?,
        max_width: width(can)?,
    })
}

/// Sizes of packets, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Payload {
    /// Most data in a packet that the function sends (MPS).
    pub max_payload: u16,
    /// Most data that the function can take in one.
    pub supported: u16,
    /// Most data that it asks for at once (MRRS).
    pub max_read_request: u16,
}

/// The sizes of packets that a function is set to.
pub fn payload(config: &[u8]) -> Option<Payload> {
    let at = capability(config, CAP_EXPRESS)?;
    let (can, control) = (dword(config, at + 4)?, word(config, at + 8)?);
    let size = |code: u16| (code < 6).then(|| 128_u16 << code);
    Some(Payload {
        max_payload: size((control >> 5) & 7)?,
        supported: size(u16::try_from(can & 7).ok()?)?,
        max_read_request: size((control >> 12) & 7)?,
    })
}

/// A BAR whose size can be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Resizable {
    /// Number of the BAR.
    #[serde(skip)]
    pub bar: u8,
    /// Its size now, in bytes.
    pub size: u64,
    /// The largest that it can have, in bytes.
    pub largest: u64,
}

/// The BARs whose size can be changed.
pub fn resizable(config: &[u8]) -> Vec<Resizable> {
    let read = || {
        let at = extended_capability(config, EXT_CAP_RESIZABLE)?;
        let count = usize::try_from((dword(config, at + 8)? >> 5) & 7).ok()?;
        let one = |index: usize| {
            let (can, control) = (
                dword(config, at + 4 + index * 8)?,
                dword(config, at + 8 + index * 8)?,
            );
            // bit 4 is 1 MiB, bit 31 is 128 TiB
            let largest = can.checked_ilog2().filter(|bit| *bit >= 4)?;
            Some(Resizable {
                bar: u8::try_from(control & 7).ok().filter(|bar| *bar < 6)?,
                size: 1_u64.checked_shl(20 + ((control >> 8) & 0x1f))?,
                largest: 1_u64 << (16 + largest),
            })
        };
        Some((0..count.min(6)).filter_map(one).collect())
    };
    read().unwrap_or_default()
}

/// Whether a function is one of CXL, too.
pub fn is_cxl(config: &[u8]) -> bool {
    let mut at = 0x100;
    for _ in 0..480 {
        let Some(header) = dword(config, at) else {
            return false;
        };
        let vendor = word(config, at + 4);
        if header & 0xffff == u32::from(EXT_CAP_DVSEC) && vendor == Some(CXL) {
            return true;
        }
        at = (header >> 20) as usize & !3;
        if at < 0x100 || header == u32::MAX {
            return false;
        }
    }
    false
}

/// The ACS capability word, where there is one and it could be read.
pub fn acs_capability(config: &[u8]) -> Option<u16> {
    if is_unreadable(config) {
        return None;
    }
    word(config, extended_capability(config, EXT_CAP_ACS)? + 4)
}

/// A base address register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// Its number.
    pub index: u8,
    /// Physical address of its first byte; 0 if it has none.
    pub address: u64,
    /// Size in bytes, if it is known.
    pub size: Option<u64>,
    /// Reading has no side effects.
    pub prefetchable: bool,
    /// It takes 64-bit addresses.
    pub wide: bool,
    /// There was no room for it.
    pub unassigned: bool,
    /// What its size can be, if that can be changed.
    pub resizable: Option<Resizable>,
}

/// The memory BARs of a function that is no bridge, as far as the registers say.
pub fn bars(config: &[u8]) -> Vec<Bar> {
    let mut bars = Vec::new();
    if is_unreadable(config) || config.get(0x0e).is_none_or(|header| header & 0x7f != 0) {
        return bars;
    }
    let mut index = 0_u8;
    while index < 6 {
        let at = 0x10 + usize::from(index) * 4;
        let Some(low) = dword(config, at) else {
            break;
        };
        let wide = low & 7 == 4;
        if low & 1 == 0 && low != 0 {
            let high = if wide { dword(config, at + 4) } else { None };
            let address = u64::from(low & !0xf) | (u64::from(high.unwrap_or(0)) << 32);
            bars.push(Bar {
                index,
                address,
                size: None,
                prefetchable: low & 8 != 0,
                wide,
                unassigned: address == 0,
                resizable: None,
            });
        }
        index += if wide { 2 } else { 1 };
    }
    bars
}

/// The memory BARs in a file `resource` of sysfs: `0xSTART 0xEND 0xFLAGS` for each.
pub fn resources(text: &str) -> Vec<Bar> {
    /// IORESOURCE_MEM, _PREFETCH, _MEM_64 and _UNSET in include/linux/ioport.h.
    const MEM: u64 = 0x200;
    const PREFETCH: u64 = 0x2000;
    const MEM_64: u64 = 0x10_0000;
    const UNSET: u64 = 0x2000_0000;

    let bar = |(index, line): (u8, &str)| {
        let mut words = line.split_whitespace().map(|word| {
            let digits = word.strip_prefix("0x")?;
            u64::from_str_radix(digits, 16).ok()
        });
        let (start, end, flags) = (words.next()??, words.next()??, words.next()??);
        if flags & MEM == 0 {
            return None;
        }
        let unassigned = flags & UNSET != 0 || start == 0;
        Some(Bar {
            index,
            address: if unassigned { 0 } else { start },
            size: Some(end.checked_sub(start)?.checked_add(1)?),
            prefetchable: flags & PREFETCH != 0,
            wide: flags & MEM_64 != 0,
            unassigned,
            resizable: None,
        })
    };
    (0..6).zip(text.lines()).filter_map(bar).collect()
}

/// Overwrites the serial number of a function with zeros, as much of it as there is.
pub fn clear_serial_number(config: &mut [u8]) {
    if let Some(at) = extended_capability(config, EXT_CAP_SERIAL) {
        config
            .iter_mut()
            .skip(at + 4)
            .take(8)
            .for_each(|byte| *byte = 0);
    }
}

/// Numbers of the buses below a bridge, if the function is one: the first is its own.
pub fn buses_below(config: &[u8]) -> Option<RangeInclusive<u8>> {
    let header = *config.get(0x0e)?;
    let is_bridge = !is_unreadable(config) && header & 0x7f == 1;
    let (secondary, subordinate) = (*config.get(0x19)?, *config.get(0x1a)?);
    (is_bridge && secondary != 0).then_some(secondary..=subordinate.max(secondary))
}

/// Vendor, device and class.
pub fn ids(config: &[u8]) -> Option<(u16, u16, u32)> {
    let class = dword(config, 0x08)? >> 8;
    Some((word(config, 0)?, word(config, 2)?, class))
}

/// Builds configuration spaces for tests.
#[cfg(test)]
pub mod fake {
    /// 4096 bytes with a PCI Express capability of this port type, behind another capability,
    /// and with ACS behind another extended capability if a control word is given.
    pub fn config(port_type: u8, acs_control: Option<u16>) -> Vec<u8> {
        let mut config = vec![0; 4096];
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        config[0x40..0x42].copy_from_slice(&[0x01, 0x80]);
        config[0x80..0x84].copy_from_slice(&[0x10, 0x00, (port_type << 4) | 2, 0]);
        // 256 bytes a packet, of 512 possible, and requests of 512
        config[0x84..0x88].copy_from_slice(&2_u32.to_le_bytes());
        config[0x88..0x8a].copy_from_slice(&0x2020_u16.to_le_bytes());
        // 8 GT/s and 4 lanes, of 16 GT/s and 16 lanes
        config[0x8c..0x90].copy_from_slice(&0x0104_u32.to_le_bytes());
        config[0x92..0x94].copy_from_slice(&0x0043_u16.to_le_bytes());
        if let Some(control) = acs_control {
            config[0x100..0x104].copy_from_slice(&0x1401_0001_u32.to_le_bytes());
            config[0x140..0x144].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
            config[0x146..0x148].copy_from_slice(&control.to_le_bytes());
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acs_redirect(config: &[u8]) -> Option<bool> {
        super::acs_redirect(config, ReadBy::Us)
    }

    #[test]
    fn finds_the_port_type() {
        for (value, expected) in [
            (0, PortType::Endpoint),
            (4, PortType::RootPort),
            (5, PortType::SwitchUpstream),
            (6, PortType::SwitchDownstream),
            (9, PortType::RootComplexEndpoint),
        ] {
            assert_eq!(port_type(&fake::config(value, None)), Some(expected));
        }
        assert_eq!(port_type(&fake::config(0xf, None)), None);
    }

    #[test]
    fn conventional_pci_has_no_port_type() {
        assert_eq!(port_type(&[0; 256]), None);
    }

    #[test]
    fn sees_redirection() {
        assert_eq!(acs_redirect(&fake::config(4, None)), Some(false));
        assert_eq!(acs_redirect(&fake::config(4, Some(0))), Some(false));
        // source validation and upstream forwarding do not redirect
        assert_eq!(acs_redirect(&fake::config(4, Some(0x11))), Some(false));
        for bit in [0x4, 0x8, 0x20] {
            assert_eq!(acs_redirect(&fake::config(4, Some(bit))), Some(true));
        }
    }

    #[test]
    fn unprivileged_readers_learn_nothing() {
        let config = &fake::config(4, Some(0x1d))[..64];
        assert_eq!(port_type(config), None);
        assert_eq!(acs_redirect(config), None);
    }

    /// What ends too early is unknown, wherever it ends, and never "no ACS".
    #[test]
    fn what_is_cut_is_unknown() {
        let by_others = |config: &[u8]| super::acs_redirect(config, ReadBy::Others);
        for acs in [Some(0x0c), Some(0), None] {
            let config = fake::config(6, acs);
            // the last byte of what tells
            let needs = if acs.is_some() { 0x148 } else { 0x104 };
            for length in 0..config.len() {
                let found = by_others(&config[..length]);
                let expected = (length >= needs).then_some(acs == Some(0x0c));
                assert_eq!(found, expected, "{acs:?} {length}");
                // the kernel gives 256 bytes where it has no more
                let found = acs_redirect(&config[..length]);
                let expected = if length == 256 { Some(false) } else { expected };
                assert_eq!(found, expected, "{acs:?} {length}");
            }
        }
        // of conventional PCI, the first 64 bytes will do if that is known
        let conventional = |config: &[u8]| super::acs_redirect(config, ReadBy::UsConventional);
        let ports = fake::config(6, Some(0x0c));
        assert_eq!(conventional(&ports[..64]), Some(false));
        assert_eq!(conventional(&ports), Some(true));
        assert_eq!(conventional(&[0xff; 256]), None);
        // conventional PCI has 256 bytes, and a list without PCI Express
        let mut config = fake::config(6, None);
        config[0x80] = 0x05;
        assert_eq!(by_others(&config[..256]), Some(false));
        assert_eq!(by_others(&config[..0x81]), None);
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(acs_redirect(&[0xff; 4096]), None);
        assert_eq!(acs_redirect(&[]), None);
        // no list of capabilities: that much is in the first 64 bytes
        assert_eq!(acs_redirect(&[0; 64]), Some(false));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..2000 {
            let mut config = fake::config(4, Some(0x1d));
            for _ in 0..1 + round % 64 {
                let at = usize::try_from(next() % 4096).expect("small");
                config[at] = next().to_le_bytes()[3];
            }
            config.truncate(usize::try_from(next() % 4097).expect("small"));
            let _ = (port_type(&config), acs_redirect(&config));
            let _ = (buses_below(&config), ids(&config));
            let _ = (link(&config), payload(&config), resizable(&config));
            let _ = (is_cxl(&config), acs_capability(&config), bars(&config));
            clear_serial_number(&mut config);
            resources(&String::from_utf8_lossy(&config));
        }
    }

    #[test]
    fn reads_links() {
        let found = link(&fake::config(0, None)).expect("a link");
        let expected = Link {
            speed: 8000,
            width: 4,
            max_speed: 16_000,
            max_width: 16,
        };
        assert_eq!(found, expected);
        // 7.88 and 63.0 GB/s, as lspci's users know them
        assert_eq!((found.bandwidth(), found.max_bandwidth()), (3938, 31_506));
        assert_eq!(bandwidth(2500, 1), 250);
        assert_eq!(bandwidth(64_000, 16), 121_000);
        assert_eq!(link(&fake::config(9, None)), None);
        let payload = payload(&fake::config(0, None)).expect("sizes");
        let sizes = (
            payload.max_payload,
            payload.supported,
            payload.max_read_request,
        );
        assert_eq!(sizes, (256, 512, 512));
    }

    #[test]
    fn reads_bars() {
        let mut config = fake::config(0, None);
        for (index, value) in [0xfe00_000c_u32, 0x38, 0xe001, 0xfd00_0000]
            .iter()
            .enumerate()
        {
            let at = 0x10 + 4 * index;
            config[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        let found: Vec<_> = bars(&config)
            .iter()
            .map(|bar| (bar.index, bar.address, bar.prefetchable, bar.wide))
            .collect();
        let expected = [
            (0, 0x38_fe00_0000, true, true),
            (3, 0xfd00_0000, false, false),
        ];
        assert_eq!(found, expected);
        assert_eq!(bars(&[0xff; 256]), []);

        let text = "0x00000000fe000000 0x00000000fe003fff 0x0000000000140204\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x0000000000000000 0x00000000ffffffff 0x000000002014220c\n\
                    0x000000000000e000 0x000000000000e01f 0x0000000000040101\n";
        let found: Vec<_> = resources(text)
            .iter()
            .map(|bar| (bar.index, bar.size, bar.unassigned))
            .collect();
        assert_eq!(found, [(0, Some(0x4000), false), (2, Some(1 << 32), true)]);
    }

    #[test]
    fn reads_what_can_be_resized() {
        let mut config = fake::config(0, None);
        config[0x100..0x104].copy_from_slice(&0x0001_0015_u32.to_le_bytes());
        // 256 MiB to 32 GiB, 256 MiB now, BAR 0, one of them
        config[0x104..0x108].copy_from_slice(&(0x0000_ff00_u32 << 4).to_le_bytes());
        config[0x108..0x10c].copy_from_slice(&0x0000_0820_u32.to_le_bytes());
        let expected = Resizable {
            bar: 0,
            size: 256 << 20,
            largest: 32 << 30,
        };
        assert_eq!(resizable(&config), [expected]);
        assert_eq!(resizable(&fake::config(0, None)), []);
    }

    #[test]
    fn knows_cxl() {
        let mut config = fake::config(4, Some(0));
        assert!(!is_cxl(&config));
        config[0x142..0x144].copy_from_slice(&0x1801_u16.to_le_bytes());
        config[0x180..0x184].copy_from_slice(&0x0001_0023_u32.to_le_bytes());
        config[0x184..0x186].copy_from_slice(&CXL.to_le_bytes());
        assert!(is_cxl(&config));
        assert_eq!(acs_capability(&config), Some(0));
    }

    #[test]
    fn broken_lists_end() {
        let mut config = fake::config(4, Some(0x1d));
        config[0x41] = 0x40;
        assert_eq!(port_type(&config), None);
        config[0x100..0x104].copy_from_slice(&0x1001_0001_u32.to_le_bytes());
        assert_eq!(acs_redirect(&config), Some(false));
    }
}
