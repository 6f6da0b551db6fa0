// SPDX-License-Identifier: GPL-2.0

//! The commands of the test device, read from the header that C programs include: a member that is
//! added there is driven here without a further word.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{bail, ensure, Context, Result};
use regex::Regex;

/// The header.
pub const HEADER: &str = include_str!("../../testing/selftests/p2pdma/p2pdma_test_uapi.h");

/// A member of a structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub offset: usize,
    /// Size of an element in bytes.
    pub width: usize,
    /// Number of elements.
    pub count: usize,
    /// Whether it is an address that the kernel reads from or writes to.
    pub pointer: bool,
}

/// A structure. There is no padding: members are aligned by their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// Its members.
    pub members: Vec<Member>,
    /// Its size in bytes.
    pub size: usize,
}

impl Structure {
    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// A command.
#[derive(Debug, Clone)]
pub struct Command {
    /// Its name, in lower case.
    pub name: String,
    /// Its number.
    pub number: u8,
    /// What it takes.
    pub structure: Structure,
    /// Flags that have a name.
    pub flags: Vec<u32>,
}

/// All that the header says.
#[derive(Debug, Clone)]
pub struct Abi {
    /// The type of the ioctls.
    pub kind: u8,
    /// The commands, in the order of their numbers.
    pub commands: Vec<Command>,
    /// Constants.
    pub constants: BTreeMap<String, u64>,
    /// The errors that a command may end with, by name.
    pub errors: BTreeSet<String>,
}

/// Members that are addresses. The header says so in words, for the compiler they are numbers.
const POINTERS: &[&str] = &[
    "addr", "pages", "segments", "calls", "entries", "pieces", "clients",
];

fn number(text: &str) -> Option<u64> {
    let text = text.trim_end_matches(['u', 'U', 'l', 'L']);

    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn constants(header: &str) -> Result<BTreeMap<String, u64>> {
    let mut constants = BTreeMap::new();

    let define = Regex::new(r"(?m)^#define\s+(P2PDMA_TEST_\w+)\s+(0x[0-9a-fA-F]+\w*|\d+\w*)$")?;
    for found in define.captures_iter(header) {
        if let Some(value) = number(&found[2]) {
            constants.insert(found[1].to_string(), value);
        }
    }

    let list = Regex::new(r"enum p2pdma_test_\w+ \{([^}]*)\}")?;
    let comment = Regex::new(r"(?s)/\*.*?\*/")?;
    let enumerator = Regex::new(r"(P2PDMA_TEST_\w+)(?:\s*=\s*1\s*<<\s*(\d+))?\s*,")?;
    for found in list.captures_iter(header) {
        let body = comment.replace_all(&found[1], "");

        for (i, found) in enumerator.captures_iter(&body).enumerate() {
            let value = match found.get(2) {
                Some(bit) => 1 << bit.as_str().parse::<u32>()?,
                None => i as u64,
            };
            constants.insert(found[1].to_string(), value);
        }
    }
    Ok(constants)
}

/// The list of errors in the comment at the top, which is a tab between each and its reasons.
fn errors(header: &str) -> Result<BTreeSet<String>> {
    let (comment, _) = header
        .split_once("#ifndef")
        .context("there is no comment at the top")?;
    let error = Regex::new(r"(?m)^ \*  (E[A-Z0-9]+)\t")?;
    let errors: BTreeSet<_> = error
        .captures_iter(comment)
        .map(|found| found[1].to_string())
        .collect();

    ensure!(!errors.is_empty(), "no errors are listed");
    Ok(errors)
}

fn structures(header: &str) -> Result<BTreeMap<String, Structure>> {
    let structure = Regex::new(r"(?m)^struct (p2pdma_test_\w+) \{\n([^}]*)\};")?;
    let member = Regex::new(r"^\t__[us](8|16|32|64) (\w+)(?:\[(\d+)\])?;$")?;
    let mut structures = BTreeMap::new();

    for found in structure.captures_iter(header) {
        let mut members = Vec::new();
        let mut size = 0;

        for line in found[2].lines() {
            let member = member
                .captures(line)
                .with_context(|| format!("struct {}: {line}", &found[1]))?;
            let width = member[1].parse::<usize>()? / 8;
            let count = member
                .get(3)
                .map_or(Ok(1), |count| count.as_str().parse())?;

            ensure!(size % width == 0, "struct {}: padding", &found[1]);
            members.push(Member {
                name: member[2].to_string(),
                offset: size,
                width,
                count,
                pointer: width == 8 && POINTERS.contains(&&member[2]),
            });
            size += width * count;
        }
        let align = members.iter().map(|member| member.width).max().unwrap_or(1);
        ensure!(size % align == 0, "struct {}: padding", &found[1]);
        structures.insert(found[1].to_string(), Structure { members, size });
    }
    Ok(structures)
}

impl Command {
    /// Whether its `id` is that of a new object, and not of one that it works on.
    pub fn makes_objects(&self) -> bool {
        matches!(&*self.name, "pin" | "extract" | "alloc")
    }
}

impl Abi {
    /// The command of that name.
    pub fn command(&self, name: &str) -> Option<&Command> {
        self.commands.iter().find(|command| command.name == name)
    }

    /// A constant, or the least value if the header has none of that name.
    pub fn constant(&self, name: &str) -> u64 {
        self.constants.get(name).copied().unwrap_or_default()
    }

    /// Reads a header.
    pub fn parse(header: &str) -> Result<Self> {
        let constants = constants(header)?;
        let structures = structures(header)?;
        // Whose argument a structure is, says the first sentence of its documentation.
        let about = Regex::new(r"(?s)/\*\*\n \* struct (p2pdma_test_\w+) - (.*?)\n \* @")?;
        let mention = Regex::new(r"%P2PDMA_TEST_IOC_(\w+)")?;
        let mut commands = Vec::new();

        for found in about.captures_iter(header) {
            for mentioned in mention.captures_iter(&found[2]) {
                let name = &mentioned[1];
                let structure = structures
                    .get(&found[1])
                    .with_context(|| format!("struct {} has no members", &found[1]))?;
                let command = constants
                    .get(&format!("P2PDMA_TEST_NR_{name}"))
                    .with_context(|| format!("{name} has no number"))?;
                let prefix = format!("P2PDMA_TEST_{name}_");
                let flags = constants
                    .iter()
                    .filter(|(flag, value)| {
                        flag.starts_with(&prefix)
                            && value.is_power_of_two()
                            && header.contains(&format!("{flag} = 1 <<"))
                    })
                    .map(|(_, value)| *value as u32)
                    .collect();

                commands.push(Command {
                    name: name.to_lowercase(),
                    number: u8::try_from(*command)?,
                    structure: structure.clone(),
                    flags,
                });
            }
        }
        commands.sort_by_key(|command| command.number);
        let numbers = constants
            .keys()
            .filter(|name| {
                name.starts_with("P2PDMA_TEST_NR_")
                    && !["APIS", "OPS", "DIRECTIONS"].contains(&&name[15..])
            })
            .count();
        if commands.len() != numbers {
            bail!(
                "{numbers} commands have a number, {} a structure",
                commands.len()
            );
        }

        Ok(Abi {
            kind: u8::try_from(
                *constants
                    .get("P2PDMA_TEST_TYPE")
                    .context("P2PDMA_TEST_TYPE is missing")?,
            )?,
            commands,
            constants,
            errors: errors(header)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header() {
        let abi = Abi::parse(HEADER).expect("the header");
        let names: Vec<_> = abi.commands.iter().map(|c| c.name.as_str()).collect();

        assert_eq!(abi.kind, 0xbb);
        assert_eq!(
            names,
            [
                "pin", "extract", "peek", "release", "alloc", "fill", "check", "map", "bio",
                "pool", "distance", "find", "enable"
            ]
        );
        for (i, command) in abi.commands.iter().enumerate() {
            assert_eq!(usize::from(command.number), i);
            assert_eq!(command.structure.members[0].name, "size");
            assert_eq!(command.structure.members[1].name, "flags");
        }
    }

    #[test]
    fn structure() {
        let abi = Abi::parse(HEADER).expect("the header");
        let pin = &abi.commands[0];

        assert_eq!(pin.structure.size, 56);
        assert_eq!(
            pin.structure.member("addr"),
            Some(&Member {
                name: "addr".into(),
                offset: 16,
                width: 8,
                count: 1,
                pointer: true
            })
        );
        assert_eq!(pin.flags, [1 << 4, 1 << 3, 1 << 1, 1 << 2, 1 << 0]);
        assert_eq!(
            abi.commands[12].structure.member("value").map(|m| m.count),
            Some(64)
        );
        for constant in [
            "NR_APIS",
            "NR_OPS",
            "NR_DIRECTIONS",
            "SELF",
            "MAX_SEGMENTS",
            "MAX_PIECES",
            "MAX_CLIENTS",
            "MAX_ENTRIES",
            "MAX_PAGES",
        ] {
            assert_ne!(abi.constant(&format!("P2PDMA_TEST_{constant}")), 0);
        }
    }

    #[test]
    fn errors_are_listed() {
        let listed = errors(HEADER).expect("errors");

        assert_eq!(listed.len(), 15);
        for name in ["EINVAL", "E2BIG", "EINTR", "EMEDIUMTYPE", "ENOMEM"] {
            assert!(listed.contains(name), "{name}");
        }
        // Those behind the comment are results.
        assert!(!listed.contains("EXDEV"));
        assert!(errors("/*\n * none\n */\n#ifndef X\n").is_err());
    }

    #[test]
    fn padding_is_refused() {
        let header = "struct p2pdma_test_x {\n\t__u32 a;\n\t__u64 b;\n};\n";

        assert!(structures(header).is_err());
    }

    #[test]
    fn what_is_no_member_is_refused() {
        let header = "struct p2pdma_test_x {\n\tint a;\n};\n";

        assert!(structures(header).is_err());
    }
}
