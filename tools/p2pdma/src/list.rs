// SPDX-License-Identifier: GPL-2.0

//! `p2pdma list`: providers of peer-to-peer memory, what of it is free, and who uses it.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::bdf::Bdf;
use crate::machine::{Machine, Provider, Source};
use crate::show;
use crate::size::Size;
use crate::text::{shorten, table};
use crate::users::{Files, PoolUsers};

/// Version of what `--json` prints.
const SCHEMA: u32 = 1;

/// A provider, and who uses it.
#[derive(Serialize)]
pub struct Row<'a> {
    bdf: Bdf,
    driver: Option<&'a str>,
    source: Option<&'a Source>,
    size: u64,
    available: u64,
    published: bool,
    numa_node: Option<u32>,
    /// None on another machine, where that cannot be looked at.
    users: Option<PoolUsers>,
}

/// What `--json` prints.
#[derive(Serialize)]
pub struct List<'a> {
    schema: u32,
    providers: Vec<Row<'a>>,
}

/// Lists the providers of a machine. If its files are below a directory, users are looked for
/// there.
pub fn list<'a>(machine: &'a Machine, root: Option<&Path>) -> List<'a> {
    let files = root.map(Files::below);
    let row = |provider: &'a Provider| Row {
        bdf: provider.bdf,
        driver: provider.driver.as_deref(),
        source: provider.source.as_ref(),
        size: provider.size,
        available: provider.available,
        published: provider.published,
        numa_node: provider.numa_node,
        users: files.as_ref().map(|files| files.pool_users(provider)),
    };
    List {
        schema: SCHEMA,
        providers: machine.providers.iter().map(row).collect(),
    }
}

/// Prints them for a person.
pub fn text(list: &List<'_>, mut out: impl Write) -> io::Result<()> {
    if list.providers.is_empty() {
        return writeln!(
            out,
            "No device provides peer-to-peer memory.\n\
             p2pdma bind DEVICE makes one of a device with a memory BAR or a CMB."
        );
    }
    let rows = list.providers.iter().map(|row| {
        vec![
            row.bdf.to_string(),
            shorten(row.driver.unwrap_or("-"), 16),
            row.source.map_or("-".to_owned(), show::place),
            Size(row.size).to_string(),
            Size(row.available).to_string(),
            if row.published { "yes" } else { "no" }.to_owned(),
        ]
    });
    let header = ["device", "driver", "memory", "size", "free", "published"];
    writeln!(out, "{}", table(&header, rows.collect(), &[3, 4]))?;
    for row in &list.providers {
        let users = row.users.as_ref().map(PoolUsers::lines).unwrap_or_default();
        if !users.is_empty() {
            writeln!(out, "\nUsers of {}", row.bdf)?;
        }
        for line in users {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{self, Fake};

    fn shown(fake: &Fake) -> String {
        let machine = fake.read();
        let mut out = Vec::new();
        text(&list(&machine, Some(fake.root.path())), &mut out).expect("output");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn lists_providers_and_users() {
        let fake = fake::switch();
        fake.write("proc/80/comm", "app\n");
        fake.write(
            "proc/80/maps",
            "7f0000000000-7f0000001000 rw-s 00000000 00:15 12 \
             /sys/x/0000:05:00.0/p2pmem/allocate\n",
        );
        fake.pool("sys/bus/pci/devices/0000:05:00.0", (64 << 20) - 4096);
        let expected = "  device        driver           memory          size      free  published
  0000:03:00.0  nvme             CMB in BAR 2  64 MiB  63.9 MiB  yes
  0000:05:00.0  p2pdma_provider  BAR 2         64 MiB  64.0 MiB  yes

Users of 0000:03:00.0
  drivers hold 128 KiB

Users of 0000:05:00.0
  process 80 (app) has mapped 4 KiB
";
        assert_eq!(shown(&fake), expected);
    }

    #[test]
    fn says_the_same_in_json() {
        let fake = fake::switch();
        let machine = fake.read();
        let value = serde_json::to_value(list(&machine, Some(fake.root.path())))
            .expect("it can be written");
        assert_eq!(value["schema"], 1);
        let provider = &value["providers"][0];
        assert_eq!(provider["bdf"], "0000:03:00.0");
        assert_eq!(provider["driver"], "nvme");
        assert_eq!(provider["source"]["kind"], "cmb");
        assert_eq!(provider["size"], 64 << 20);
        assert_eq!(provider["available"], 66_977_792);
        assert_eq!(provider["published"], true);
        assert_eq!(provider["users"]["kernel"], 128 << 10);
        assert_eq!(
            provider["users"]["processes"],
            serde_json::Value::Array(Vec::new())
        );
    }

    /// What a capture has of a machine.
    #[test]
    fn knows_no_users_of_another_machine() {
        let fake = fake::switch();
        let machine = fake.read();
        let listed = list(&machine, None);
        let value = serde_json::to_value(&listed).expect("it can be written");
        assert_eq!(value["providers"][0]["size"], 64 << 20);
        assert_eq!(value["providers"][0]["users"], serde_json::Value::Null);
        let mut out = Vec::new();
        text(&listed, &mut out).expect("output");
        let out = String::from_utf8(out).expect("UTF-8");
        assert!(
            out.contains("0000:05:00.0  p2pdma_provider  BAR 2"),
            "{out}"
        );
        assert!(!out.contains("Users of"), "{out}");
    }

    #[test]
    fn says_what_to_do_if_there_is_none() {
        assert!(shown(&Fake::new()).contains("p2pdma bind DEVICE"));
    }
}
