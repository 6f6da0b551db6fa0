// SPDX-License-Identifier: GPL-2.0

//! What the library's types rule out does not compile; the examples of its documentation do.
//!
//! Each file of `compile_fail/` is compiled as a kernel module of its own against a library, with
//! the command that Kbuild used for a module that uses it. A line `//~ E0505` says which error is
//! expected (its text where it has no code), and that no other is; `//~ OK` that it compiles.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use p2pdma_common::Compilation;

/// A library, by a module that uses it.
struct Library {
    /// Directory of the module, relative to the one that the modules were built in.
    dir: &'static str,
    /// Name of the module.
    user: &'static str,
    /// Cases, relative to this crate.
    cases: &'static str,
    /// Examples, relative to this crate.
    examples: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library {
        dir: "samples/rust/p2pdma_provider",
        user: "p2pdma_provider",
        cases: "compile_fail",
        examples: "../../rust/p2pdma/examples",
    },
    Library {
        dir: "tools/testing/selftests/p2pdma/modules/p2pdma_nvmet",
        user: "p2pdma_nvmet",
        cases: "compile_fail/nvmet",
        examples: "../../rust/nvmet/examples",
    },
];

/// Kbuild's command for the user of a [`Library`].
struct Compiler {
    dir: PathBuf,
    command: Compilation,
}

impl Compiler {
    fn from_kbuild(dir: &Path, library: &Library) -> Self {
        let path = dir
            .join(library.dir)
            .join(format!(".{}.o.cmd", library.user));
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{}: {e} (run `make modules` first)", path.display()));
        Self {
            dir: dir.to_owned(),
            command: Compilation::parse(&text).expect("Kbuild saves the command"),
        }
    }

    /// The errors that compiling `source` gives, by code or text, and all that the compiler says.
    fn errors(&self, source: &Path) -> (BTreeSet<String>, String) {
        let out = tempfile::tempdir().expect("a temporary directory");
        let output = Command::new(&self.command.program)
            .args(&self.command.args)
            .arg(format!(
                "--emit=metadata={}",
                out.path().join("lib.rmeta").display()
            ))
            .arg(source)
            .envs(&self.command.env)
            // As the kernel's Makefile does: the kernel uses unstable features.
            .env("RUSTC_BOOTSTRAP", "1")
            .current_dir(&self.dir)
            .output()
            .expect("the compiler runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let errors = text
            .lines()
            .filter_map(|line| {
                let error = line.strip_prefix("error")?;
                let code = error
                    .strip_prefix('[')
                    .and_then(|code| code.split_once(']'));

                // Some errors have no code, only a text.
                code.map_or_else(|| error.strip_prefix(": "), |(code, _)| Some(code))
            })
            .filter(|error| !error.starts_with("aborting due to"))
            .map(str::to_owned)
            .collect();

        (errors, text)
    }
}

fn expected(source: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(source).expect("a case can be read");
    let codes: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//~ "))
        .map(str::to_owned)
        .collect();

    assert!(
        !codes.is_empty(),
        "{}: no line with `//~`",
        source.display()
    );
    codes.into_iter().filter(|code| code != "OK").collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension() == Some(OsStr::new("rs")))
        .collect();

    files.sort();
    files
}

#[test]
#[ignore = "needs the kernel modules: `make unit` builds them and runs it"]
fn compile_fail() {
    let dir = env::var_os("P2PDMA_MODULE_DIR")
        .expect("P2PDMA_MODULE_DIR names the directory that the modules were built in");
    let dir = PathBuf::from(dir);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut failures = Vec::new();

    for library in &LIBRARIES {
        let compiler = Compiler::from_kbuild(&dir, library);
        let sources = rust_files(&here.join(library.cases));
        let examples = rust_files(&here.join(library.examples));

        for (source, expected) in sources
            .iter()
            .map(|source| (source, expected(source)))
            .chain(examples.iter().map(|source| (source, BTreeSet::new())))
        {
            let (codes, text) = compiler.errors(source);

            if codes != expected {
                failures.push(format!(
                    "{}: expected {expected:?}, got {codes:?}\n{text}",
                    source.display()
                ));
            }
        }
        assert!(sources.len() > 1 && !examples.is_empty(), "there are cases");
        println!(
            "{}: {} cases, {} examples",
            library.user,
            sources.len(),
            examples.len()
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
