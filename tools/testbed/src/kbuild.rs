// SPDX-License-Identifier: GPL-2.0

//! The crates that Kbuild has compiled, read off the commands that it saves beside each object.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context, Result};
use p2pdma_common::Compilation;

/// How one crate was compiled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its root source file.
    pub source: PathBuf,
    /// All other source files that were read, generated ones too.
    pub files: Vec<PathBuf>,
    /// Environment of the compiler.
    pub env: BTreeMap<String, String>,
    /// Arguments of the compiler, without outputs and the source.
    pub args: Vec<String>,
}

impl Crate {
    /// Names of the crates that it uses.
    pub fn externs(&self) -> impl Iterator<Item = &str> {
        let values = self.args.windows(2).filter(|pair| pair[0] == "--extern");
        values.map(|pair| pair[1].split('=').next().unwrap_or_default())
    }

    /// The value of an argument `--name=value`.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.args
            .iter()
            .find_map(|arg| arg.strip_prefix(name)?.strip_prefix('='))
    }

    /// Writes the documentation of its public items to `to`.
    pub fn document(&self, dir: &Path, to: &Path) -> Result<()> {
        let status = Command::new("rustdoc")
            .args(&self.args)
            .args([
                "-Zunstable-options",
                "--generate-link-to-definition",
                "-Dwarnings",
                "--crate-name",
                &self.name,
            ])
            .arg("--output")
            .arg(to)
            .arg(&self.source)
            .envs(&self.env)
            // The kernel uses unstable features; its own Makefile sets this for everything.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(dir)
            .status()
            .context("cannot run rustdoc")?;
        if !status.success() {
            bail!("rustdoc failed on the crate {}", self.name);
        }
        Ok(())
    }

    /// Reads the file in which Kbuild saves a command; `None` if that compiled no Rust.
    fn parse(text: &str) -> Option<Self> {
        let Compilation {
            env, args, source, ..
        } = Compilation::parse(text)?;
        let named = args
            .windows(2)
            .find(|pair| pair[0] == "--crate-name")
            .map(|pair| pair[1].clone());
        let stem = Path::new(&source).file_stem()?.to_str()?;
        let prerequisites = text.lines().filter_map(|line| line.strip_prefix("  "));
        Some(Self {
            files: prerequisites
                .filter_map(|line| line.strip_suffix(" \\"))
                .filter(|file| file.ends_with(".rs"))
                .map(PathBuf::from)
                .collect(),
            name: named.unwrap_or_else(|| stem.replace('-', "_")),
            source: PathBuf::from(source),
            env,
            args,
        })
    }
}

/// Finds the variables through which a crate includes a file that was generated in `dir`.
///
/// Kbuild exports them to the compiler, and so they are not part of the command that it saves.
fn add_exported(one: &mut Crate, dir: &Path) -> Result<()> {
    const INCLUDE: &str = "include!(env!(\"";
    let (generated, written): (Vec<_>, Vec<_>) =
        one.files.iter().partition(|file| file.starts_with(dir));
    let mut names = Vec::new();
    for file in written.into_iter().chain([&one.source]) {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        for after in text.split(INCLUDE).skip(1) {
            names.extend(after.split('"').next().map(str::to_owned));
        }
    }
    match (names.as_slice(), generated.as_slice()) {
        ([], _) => (),
        ([name], [file]) => {
            one.env.insert(name.clone(), file.display().to_string());
        }
        _ => bail!(
            "crate {}: cannot tell which of {names:?} is which of {generated:?}",
            one.name
        ),
    }
    Ok(())
}

/// All crates that were compiled into `dir`, each after those that it uses.
pub fn crates(dir: &Path) -> Result<Vec<Crate>> {
    let dir = &dir
        .canonicalize()
        .with_context(|| format!("cannot read {}", dir.display()))?;
    let mut found = Vec::new();
    walk(dir, &mut found).with_context(|| format!("cannot read {}", dir.display()))?;
    if found.is_empty() {
        bail!(
            "no Rust crate was built in {}: run `make modules`",
            dir.display()
        );
    }
    found.sort_by(|a, b| a.source.cmp(&b.source));
    for one in &mut found {
        for file in &mut one.files {
            let path = dir.join(&file);
            *file = path.canonicalize().unwrap_or(path);
        }
        add_exported(one, dir)?;
    }
    let mut sorted: Vec<Crate> = Vec::new();
    while !found.is_empty() {
        let waits = |one: &Crate| {
            one.externs()
                .any(|name| found.iter().any(|other| other.name == name))
        };
        let (later, ready): (Vec<_>, Vec<_>) = found.iter().cloned().partition(waits);
        if ready.is_empty() {
            bail!("the crates in {} use each other in a circle", dir.display());
        }
        sorted.extend(ready);
        found = later;
    }
    Ok(sorted)
}

fn walk(dir: &Path, found: &mut Vec<Crate>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        // Links are not followed: there is one to the directory itself.
        if entry.file_type()?.is_dir() {
            walk(&path, found)?;
        } else if path.to_string_lossy().ends_with(".o.cmd") {
            found.extend(Crate::parse(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(name: &str, externs: &str, source: &str) -> String {
        format!(
            "savedcmd_a/{name}.o := OBJTREE=/o RUST_MODFILE=./{name} rustc --edition=2021 \
             -Zcrate-attr='feature(a,b)' {externs} --cfg MODULE --out-dir a/ \
             --emit=obj=a/{name}.o {source}/{name}.rs  ; ./objtool --x a/{name}.o\n\n\
             source_a/{name}.o := {source}/{name}.rs\n\n\
             deps_a/{name}.o := \\\n  {source}/part.rs \\\n  a/generated.rs \\\n  \
             /k/libcore.rmeta \\\n"
        )
    }

    #[test]
    fn command_is_taken_apart() {
        let one = Crate::parse(&saved(
            "one",
            "-L x --extern p2pdma --extern kernel=/k",
            "/src/a",
        ))
        .expect("Rust");
        assert_eq!(one.name, "one");
        assert_eq!(one.source, Path::new("/src/a/one.rs"));
        assert_eq!(one.env["RUST_MODFILE"], "./one");
        assert_eq!(one.externs().collect::<Vec<_>>(), ["p2pdma", "kernel"]);
        assert_eq!(one.option("--edition"), Some("2021"));
        assert_eq!(one.option("--target"), None);
        assert_eq!(
            one.files,
            [Path::new("/src/a/part.rs"), Path::new("a/generated.rs")]
        );
        assert_eq!(
            one.args,
            [
                "--edition=2021",
                "-Zcrate-attr=feature(a,b)",
                "-L",
                "x",
                "--extern",
                "p2pdma",
                "--extern",
                "kernel=/k",
                "--cfg",
                "MODULE"
            ]
        );
    }

    #[test]
    fn c_objects_are_no_crates() {
        assert_eq!(Crate::parse("savedcmd_a.o := gcc-14 -c -o a.o a.c\n"), None);
        assert_eq!(Crate::parse(""), None);
    }

    /// A source and a build directory, with the commands of crates and what they use.
    fn built(crates: &[(&str, &str)], part: &str) -> (tempfile::TempDir, tempfile::TempDir) {
        let source = tempfile::tempdir().expect("temporary directory");
        let build = tempfile::tempdir().expect("temporary directory");
        fs::write(source.path().join("part.rs"), part).expect("written");
        fs::create_dir(build.path().join("a")).expect("made");
        for (name, externs) in crates {
            let text = saved(name, externs, source.path().to_str().expect("UTF-8"));
            fs::write(source.path().join(format!("{name}.rs")), "").expect("written");
            fs::write(build.path().join(format!("a/.{name}.o.cmd")), text).expect("written");
        }
        std::os::unix::fs::symlink(".", build.path().join("loop")).expect("linked");
        (source, build)
    }

    #[test]
    fn users_come_after_what_they_use() {
        let both = [
            ("a_user", "--extern library"),
            ("library", "--extern kernel"),
        ];
        let (_source, build) = built(&both, "");
        let crates = crates(build.path()).expect("found");
        let names: Vec<&str> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["library", "a_user"]);
    }

    #[test]
    fn exported_variable_is_found_in_the_source() {
        let (_source, build) = built(&[("one", "")], "include!(env!(\"ONE_BINDINGS\"));\n");
        let crates = crates(build.path()).expect("found");
        let generated = build
            .path()
            .canonicalize()
            .expect("there")
            .join("a/generated.rs");
        assert_eq!(
            crates[0].env["ONE_BINDINGS"],
            generated.to_str().expect("UTF-8")
        );
    }

    #[test]
    fn several_exported_variables_are_not_guessed() {
        let part = "include!(env!(\"ONE\"));\ninclude!(env!(\"TWO\"));\n";
        let (_source, build) = built(&[("one", "")], part);
        assert!(crates(build.path()).is_err());
    }

    #[test]
    fn nothing_built_is_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let error = crates(dir.path()).expect_err("nothing").to_string();
        assert!(error.contains("make modules"), "{error}");
    }
}
