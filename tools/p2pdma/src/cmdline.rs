// SPDX-License-Identifier: GPL-2.0

//! The kernel's command line: lists of ports whose ACS settings it is to change.

use crate::bdf::Bdf;
use crate::machine::{Device, Machine};
use crate::route::upwards;

/// The parameters, as next_arg() in lib/cmdline.c takes them apart: a double quote keeps spaces
/// together, around a parameter or its value, and is not part of either.
pub fn parameters(line: &str) -> Vec<String> {
    let mut parameters = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let mut quoted = false;
        let end = rest.find(|c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_start();
        // what follows is for init
        if word == "--" {
            break;
        }
        let (word, is_quoted) = match word.strip_prefix('"') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| {
            (name, Some((value.trim_start_matches('"'), value)))
        });
        parameters.push(match value {
            Some((value, raw)) if is_quoted || value.len() < raw.len() => {
                format!("{name}={}", value.strip_suffix('"').unwrap_or(value))
            }
            Some((value, _)) => format!("{name}={value}"),
            None if is_quoted => name.strip_suffix('"').unwrap_or(name).to_owned(),
            None => name.to_owned(),
        });
    }
    parameters
}

/// What follows `pci=`, each of which is a list of options that commas separate.
pub fn pci(line: &str) -> Vec<String> {
    let parameters = parameters(line).into_iter();
    parameters
        .filter_map(|word| Some(word.strip_prefix("pci=")?.to_owned()))
        .collect()
}

/// All values of an option of `pci=`, of which the kernel keeps the last only.
pub fn values(line: &str, option: &str) -> Vec<String> {
    let options = pci(line);
    let parts = options.iter().flat_map(|option| option.split(','));
    parts
        .filter_map(|part| Some(part.strip_prefix(option)?.strip_prefix('=')?.to_owned()))
        .collect()
}

/// What a list names, one after the other.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(';').filter(|item| !item.is_empty())
}

/// Whether this looks like something that a list can name: an address, a path, or ids.
pub fn is_port(text: &str) -> bool {
    let first = text.split_once('/').map_or(text, |(first, _)| first);
    first.parse::<Bdf>().is_ok() || text.starts_with("pci:") || text.contains('@')
}

/// A port by its path from the root bus, which keeps its meaning where bus numbers move:
/// `0000:00:01.0/00.0/02.0`.
pub fn path(machine: &Machine, port: Bdf) -> String {
    let mut path = upwards(machine, port);
    path.reverse();
    let parts = path.iter().enumerate().map(|(depth, bdf)| match depth {
        0 => bdf.to_string(),
        _ => bdf.slot(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Whether a list's item names this function, as pci_dev_str_match() has it. Ids of the subsystem
/// are not known here, and taken to be right.
pub fn names(machine: &Machine, item: &str, device: &Device) -> bool {
    if let Some(ids) = item.strip_prefix("pci:") {
        let mut ids = ids.split(':');
        let mut is = |value: u16| {
            let word = ids.next().unwrap_or_default();
            let id = u16::from_str_radix(word.trim_start_matches("0x"), 16);
            // 0 stands for all
            id.is_ok_and(|id| id == 0 || id == value)
        };
        return is(device.vendor_id) && is(device.device_id);
    }
    let slot = |bdf: Bdf| -> String { bdf.slot() };
    let mut parts = item.rsplit('/');
    let mut last = parts.next().unwrap_or_default();
    let mut above = upwards(machine, device.bdf).into_iter();
    loop {
        let Some(at) = above.next() else {
            return false;
        };
        match parts.next() {
            None => return last.parse() == Ok(at),
            // any bus will do
            Some(_) if format!("0:{last}").parse::<Bdf>().map(slot) != Ok(slot(at)) => {
                return false;
            }
            Some(next) => last = next,
        }
    }
}

/// Bits of the ACS control word that `config_acs=` changes, and to what: `10x` before the `@`.
pub fn flags(text: &str) -> Option<(u16, u16)> {
    let (mut mask, mut set) = (0, 0);
    for (shift, c) in text.chars().rev().enumerate() {
        // there are seven of them
        let bit = 1_u16.checked_shl(u32::try_from(shift).ok()?)?;
        match c {
            'x' | 'X' => continue,
            '0' => mask |= bit,
            '1' => {
                mask |= bit;
                set |= bit;
            }
            _ => return None,
        }
    }
    (mask & !0x7f == 0).then_some((mask, set))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake;

    #[test]
    fn quotes_keep_together() {
        assert_eq!(
            parameters("a \"pci=x;y\" pci=\"p q\"  b=\"\" \"c d\" -- pci=z"),
            ["a", "pci=x;y", "pci=p q", "b=", "c d"]
        );
        for line in ["", "\"", "=\"", "--"] {
            assert!(parameters(line).len() < 2, "{line}");
        }
    }

    #[test]
    fn finds_lists() {
        let line = "pci=nomsi,disable_acs_redir=1:0.0 \"pci=disable_acs_redir=2:0.0;3:0.0;\"";
        let lists = values(line, "disable_acs_redir");
        assert_eq!(lists, ["1:0.0", "2:0.0;3:0.0;"]);
        assert_eq!(items(&lists[1]).collect::<Vec<_>>(), ["2:0.0", "3:0.0"]);
        assert!(values(line, "config_acs").is_empty());
    }

    #[test]
    fn names_as_the_kernel_does() {
        let machine = fake::switch().read();
        for (item, expected) in [
            ("02:01.0", 1),
            ("0000:02:01.0", 1),
            ("1:02:01.0", 0),
            ("pci:104c:8233", 3),
            ("pci:104c:0", 4),
            ("pci:0:0", 9),
            ("pci:0x104c:8232:0:0", 1),
            ("pci:104c", 0),
            ("pci:", 0),
            ("00:01.0/00.0/01.0", 1),
            ("0000:01:00.0/2.0", 1),
            ("00:01.0/00.0/03.0", 0),
            ("00:01.0/00.0/01", 0),
            ("00:01.0/01.0", 0),
            ("/", 0),
            ("", 0),
        ] {
            let devices = machine.devices.values();
            let found = devices.filter(|device| names(&machine, item, device));
            assert_eq!(found.count(), expected, "{item}");
        }
    }

    #[test]
    fn reads_flags() {
        assert_eq!(flags("0x00xx"), Some((0x2c, 0)));
        assert_eq!(flags("1x0"), Some((5, 4)));
        assert_eq!(flags("xxxxxxxx"), Some((0, 0)));
        for text in ["2", "10000000", "0xzz", &"0".repeat(70_000)] {
            assert_eq!(flags(text), None, "{}", text.len());
        }
    }
}
