// SPDX-License-Identifier: GPL-2.0

//! Manual pages and completions for shells, made from the definition of the command line.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Writes a page for the program, `p2pdma.1`, and one for each command, `p2pdma-check.1` and so
/// on. The directory is made if it is not there.
pub fn pages(mut command: Command, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    command.build();
    let write = |command: Command| {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = dir.join(format!("{name}.1"));
        let mut page = Vec::new();
        let man = Man::new(command).manual("User Commands");
        man.render(&mut page)?;
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
    };
    let visible = command.get_subcommands().filter(|sub| {
        // nothing is to be said of the command that explains the others
        !sub.is_hide_set() && sub.get_name() != "help"
    });
    for sub in visible {
        write(sub.clone())?;
    }
    write(command)
}

/// Prints completions for a shell.
pub fn completions(mut command: Command, shell: Shell, out: &mut impl Write) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "p2pdma", &mut script);
    out.write_all(&script)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, ValueEnum as _};

    use super::*;
    use crate::Cli;

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let to = dir.path().join("man1");
        pages(Cli::command(), &to).expect("pages");
        let read = |name: &str| fs::read_to_string(to.join(name)).expect(name);
        let all = read("p2pdma.1");
        assert!(all.contains("p2pdma\\-check(1)"), "{all}");
        for sub in Cli::command().get_subcommands() {
            let name = format!("p2pdma-{}.1", sub.get_name());
            assert_eq!(to.join(&name).exists(), !sub.is_hide_set(), "{name}");
        }
        let check = read("p2pdma-check.1");
        assert!(check.contains(".TH p2pdma-check 1"), "{check}");
        assert!(check.contains("\\-\\-explain"), "{check}");
    }

    #[test]
    fn every_shell_is_served() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            completions(Cli::command(), *shell, &mut out).expect("output");
            let script = String::from_utf8(out).expect("UTF-8");
            assert!(script.contains("topo"), "{shell}");
        }
    }
}
