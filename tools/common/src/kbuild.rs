// SPDX-License-Identifier: GPL-2.0

//! How Kbuild compiled a Rust crate, read off the command that it saves beside the object.

use std::collections::BTreeMap;

/// A run of rustc.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compilation {
    /// Environment of the compiler.
    pub env: BTreeMap<String, String>,
    /// The compiler.
    pub program: String,
    /// Its arguments, without outputs and the source.
    pub args: Vec<String>,
    /// The root source file.
    pub source: String,
}

impl Compilation {
    /// Reads the file in which Kbuild saves a command; `None` if that compiled no Rust.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, line) = text
            .lines()
            .find_map(|line| line.strip_prefix("savedcmd_")?.split_once(" := "))?;
        // Written for make, hence the escapes; objtool may run after the compiler.
        let command = line
            .split(" ; ")
            .next()?
            .replace("\\#", "#")
            .replace("$$", "$");
        let words = shlex::split(&command)?;
        let program = words.iter().position(|word| !word.contains('='))?;
        let (env, rest) = words.split_at(program);
        let (program, rest) = rest.split_first()?;
        if !program.contains("rustc") && !program.contains("clippy") {
            return None;
        }
        let source = rest.iter().rfind(|word| word.ends_with(".rs"))?;
        let mut args: Vec<String> = rest
            .iter()
            .filter(|word| !word.starts_with("--emit=") && *word != source)
            .cloned()
            .collect();
        if let Some(at) = args.iter().position(|arg| arg == "--out-dir") {
            args.drain(at..(at + 2).min(args.len()));
        }
        Some(Self {
            env: env
                .iter()
                .filter_map(|word| word.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            program: program.clone(),
            args,
            source: source.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_taken_apart() {
        let one = Compilation::parse(
            "savedcmd_a/one.o := OBJTREE=/o RUST_MODFILE=./one rustc --edition=2021 \
             -Zcrate-attr='feature(a,b)' --cfg 'a=\"\\#b\"' --cfg 'c=$$d' --out-dir a/ \
             --emit=obj=a/one.o --emit=dep-info=a/.one.o.d /src/one.rs  ; ./objtool --x a/one.o\n\n\
             source_a/one.o := /src/one.rs\n",
        )
        .expect("Rust");
        assert_eq!(one.program, "rustc");
        assert_eq!(one.source, "/src/one.rs");
        assert_eq!(one.env["OBJTREE"], "/o");
        assert_eq!(one.env["RUST_MODFILE"], "./one");
        assert_eq!(
            one.args,
            [
                "--edition=2021",
                "-Zcrate-attr=feature(a,b)",
                "--cfg",
                "a=\"#b\"",
                "--cfg",
                "c=$d"
            ]
        );
    }

    #[test]
    fn what_compiles_no_rust_is_none() {
        for other in [
            "",
            "savedcmd_a.o := gcc-14 -c -o a.o a.c\n",
            "savedcmd_a.o := A=b\n",
            "savedcmd_a.o := rustc --version\n",
        ] {
            assert_eq!(Compilation::parse(other), None, "{other}");
        }
    }
}
