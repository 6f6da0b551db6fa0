// SPDX-License-Identifier: GPL-2.0

//! What a function's configuration space says about its place in the PCIe hierarchy.
//!
//! sysfs hands the whole of it to root only; others get the first 64 bytes, which hold no
//! capabilities. Everything here is therefore optional.

use serde::Serialize;

/// PCIe capability: PCI Express.
const CAP_EXPRESS: u8 = 0x10;
/// Extended capability: Access Control Services.
const EXT_CAP_ACS: u16 = 0x000d;
/// Extended capability: Device Serial Number, which network cards make of their MAC address.
const EXT_CAP_SERIAL: u16 = 0x0003;
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

/// Offset of a capability in the first 256 bytes.
fn capability(config: &[u8], id: u8) -> Option<usize> {
    let has_list = word(config, 0x06)? & 0x10 != 0;
    if !has_list {
        return None;
    }
    let mut at = usize::from(*config.get(0x34)?) & !3;
    // a list that runs in circles ends after as many steps as there is room for entries
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        if *config.get(at)? == id {
            return Some(at);
        }
        at = usize::from(*config.get(at + 1)?) & !3;
    }
    None
}

/// Offset of an extended capability, behind the first 256 bytes.
fn extended_capability(config: &[u8], id: u16) -> Option<usize> {
    let mut at = 0x100;
    for _ in 0..480 {
        let header = dword(config, at)?;
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header & 0xffff == u32::from(id) {
            return Some(at);
        }
        at = usize::try_from(header >> 20).ok()? & !3;
        if at < 0x100 {
            return None;
        }
    }
    None
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

/// The ACS control word, or that the function has no ACS capability.
///
/// `Err` if that could not be found out: what was read ends before it would come.
pub fn acs_control(config: &[u8]) -> Result<Option<u16>, Unknown> {
    if is_unreadable(config) || config.len() < 64 {
        return Err(Unknown);
    }
    if word(config, 0x06).is_some_and(|status| status & 0x10 == 0) {
        return Ok(None);
    }
    if config.len() <= 64 {
        return Err(Unknown);
    }
    Ok(extended_capability(config, EXT_CAP_ACS).and_then(|at| word(config, at + 6)))
}

/// It could not be found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// Whether ACS sends peer-to-peer traffic that passes this function up to the host bridge.
///
/// `None` if that could not be read.
pub fn acs_redirect(config: &[u8]) -> Option<bool> {
    let control = acs_control(config).ok()?;
    Some(control.is_some_and(|control| control & ACS_REDIRECT != 0))
}

/// Overwrites the serial number of a function with zeros.
pub fn clear_serial_number(config: &mut [u8]) {
    let at = extended_capability(config, EXT_CAP_SERIAL);
    if let Some(number) = at.and_then(|at| config.get_mut(at + 4..at + 12)) {
        number.fill(0);
    }
}

/// Number of the bus below a bridge, if the function is one.
pub fn secondary_bus(config: &[u8]) -> Option<u8> {
    let header = *config.get(0x0e)?;
    let is_bridge = !is_unreadable(config) && header & 0x7f == 1;
    let bus = *config.get(0x19)?;
    (is_bridge && bus != 0).then_some(bus)
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
            let _ = (secondary_bus(&config), ids(&config));
        }
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
