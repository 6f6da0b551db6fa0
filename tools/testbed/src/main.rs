// SPDX-License-Identifier: GPL-2.0

//! Prepares the kernels that the modules are built for and the tests run on.
//!
//! Runs inside the root that `tools/testbed/enter` makes. What it downloads and builds is kept in
//! `$P2PDMA_CACHE`; progress goes to stderr, results to stdout. Exit status: 0, or 2 with one
//! message that says what is wrong and what to do about it; `ready` also has 1, for no.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail, Context, Result};
use clap::{Parser, Subcommand};
use p2pdma_common::Manifest;

mod apt;
mod cache;
mod compile;
mod flavour;
mod kbuild;
mod kdir;
mod lock;
mod manifest;
mod prepare;
mod project;
mod step;
mod trial;

use cache::Cache;
use flavour::{Compiled, Flavour, Origin, Packaged};
use lock::Lock;

/// Names a lock file to use instead of the checkout's, while a series is tried.
const LOCK: &str = "P2PDMA_KERNEL_LOCK";

/// Prepare the kernels that the modules are built for and the tests run on.
#[derive(Parser)]
#[command(
    name = "testbed",
    after_help = "Examples:\n  \
        testbed prepare                     the distribution's kernel, to build for and to boot\n  \
        testbed prepare --flavour debug     a kernel with all checks: compiled, once\n  \
        testbed prepare --flavour small --patch my.patch   with a change of one's own\n  \
        testbed ready --flavour debug       is it there already?\n  \
        testbed check-kdir ~/linux          is this kernel tree fit for building the modules?\n  \
        testbed check-kdir --boot ~/linux   and for booting it in a virtual machine?\n  \
        testbed update-lock                 move to the newest packages of the kernel series\n  \
        testbed update-lock --series 7.4    move to another series, if it works\n\n\
        Run it in the testbed: tools/testbed/enter, or through make."
)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Where all that is downloaded and built is kept
    #[arg(
        long,
        env = "P2PDMA_CACHE",
        value_name = "DIR",
        global = true,
        default_value = "",
        hide_default_value = true
    )]
    cache: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Make a kernel ready to build modules for and to boot; prints the path of its kernel.json
    Prepare {
        /// Which kernel: the name of a file in tools/testbed/flavours
        #[arg(long, value_name = "NAME", default_value = "stock")]
        flavour: String,
        /// Apply this patch after those of the flavour, which must be one that is compiled; may be
        /// repeated
        #[arg(long, value_name = "FILE")]
        patch: Vec<PathBuf>,
        /// Also write kernel.json, and the same for a shell as kernel.env, to this directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Tell whether a kernel is ready: prints the path of its kernel.json, or exits with 1
    Ready {
        /// Which kernel: the name of a file in tools/testbed/flavours
        #[arg(long, value_name = "NAME", default_value = "stock")]
        flavour: String,
    },
    /// Check that modules can be built for a kernel tree; prints its kernel.json
    CheckKdir {
        /// The kernel tree, or the directory given to its build as O=
        dir: PathBuf,
        /// The value of LLVM= that the kernel was built with, if any
        #[arg(long, value_name = "VALUE", num_args = 0..=1, default_missing_value = "1")]
        llvm: Option<String>,
        /// Check also that it can be booted
        #[arg(long)]
        boot: bool,
        /// Also write kernel.json, and the same for a shell as kernel.env, to this directory
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Write the newest kernel packages of the supported series to kernel.lock
    ///
    /// With --series, one flavour moves to a series that it need not list. It is tried first:
    /// modules are built for it, and the tests run in one topology. If that fails, kernel.lock
    /// stays as it was, what broke is printed, and the exit status is 1.
    UpdateLock {
        /// The series to move to
        #[arg(long, value_name = "SERIES")]
        series: Option<String>,
        /// The flavour that is to move there
        #[arg(
            long,
            value_name = "NAME",
            default_value = "stock",
            requires = "series"
        )]
        flavour: String,
    },
    /// Print a rust-project.json with the crates of the kernel and those of the modules
    RustProject {
        /// The directory that the modules were built in
        dir: PathBuf,
        /// Where the testbed's root is, seen from outside
        #[arg(
            long,
            env = "P2PDMA_ROOT",
            value_name = "DIR",
            default_value = "",
            hide_default_value = true
        )]
        root: String,
    },
    /// Write the documentation of a crate of the modules; prints the path of its first page
    Rustdoc {
        /// The directory that the modules were built in
        dir: PathBuf,
        /// Name of the crate
        #[arg(long = "crate", value_name = "NAME", default_value = "p2pdma")]
        name: String,
        /// Where to write it
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("testbed: {}", explain(&error));
            ExitCode::from(2)
        }
    }
}

/// The whole chain of causes on one line, or what to do if it comes down to the disk being full.
fn explain(error: &anyhow::Error) -> String {
    let full = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::StorageFull);
    if full {
        format!("{error:#}; free space there or set P2PDMA_CACHE")
    } else {
        format!("{error:#}")
    }
}

/// A kernel of the testbed's own.
struct Kernels<'a> {
    cache: Cache,
    flavours: &'a Path,
    lock: Lock,
    rustc: String,
}

impl Kernels<'_> {
    fn flavour(&self, name: &str) -> Result<Flavour> {
        Flavour::load(self.flavours, name)
    }

    /// The kernel of the flavour `name`, if it is ready.
    fn ready(&self, name: &str) -> Result<Option<(Manifest, PathBuf)>> {
        let flavour = self.flavour(name)?;
        match &flavour.origin {
            Origin::Packaged(_) => Ok(self.packaged_ready(&flavour)),
            Origin::Compiled(compiled) => {
                let base = self.flavour(&compiled.base)?;
                match self.packaged_ready(&base) {
                    Some(base) => Ok(self.compiled(&flavour, compiled, &base)?.ready()),
                    None => Ok(None),
                }
            }
        }
    }

    /// Makes the kernel of the flavour `name` ready, with further patches.
    fn prepare(&self, name: &str, patches: &[PathBuf]) -> Result<(Manifest, PathBuf)> {
        let mut flavour = self.flavour(name)?;
        flavour.check_suite()?;
        if let Origin::Compiled(compiled) = &mut flavour.origin {
            for patch in patches {
                let path = patch.canonicalize();
                let path = path.with_context(|| format!("cannot read {}", patch.display()))?;
                compiled.patches.push(path);
            }
        } else if !patches.is_empty() {
            bail!("--patch: the kernel flavour {name} is not compiled, so it cannot be patched");
        }
        match &flavour.origin {
            Origin::Packaged(packaged) => self.prepare_packaged(&flavour, packaged),
            Origin::Compiled(compiled) => {
                let base = self.flavour(&compiled.base)?;
                let base = self.prepare_packaged(&base, base.packaged()?)?;
                let kernel = self.compiled(&flavour, compiled, &base)?;
                kernel.prepare(&self.cache, &base.0.source)
            }
        }
    }

    fn packaged_ready(&self, flavour: &Flavour) -> Option<(Manifest, PathBuf)> {
        prepare::ready(&self.cache, flavour, &self.lock, &self.rustc)
    }

    fn prepare_packaged(
        &self,
        flavour: &Flavour,
        packaged: &Packaged,
    ) -> Result<(Manifest, PathBuf)> {
        prepare::prepare(&self.cache, flavour, packaged, &self.lock, &self.rustc)
    }

    fn compiled<'a>(
        &'a self,
        flavour: &'a Flavour,
        compiled: &'a Compiled,
        base: &(Manifest, PathBuf),
    ) -> Result<compile::Kernel<'a>> {
        compile::Kernel::new(&self.cache, flavour, compiled, base, &self.rustc)
    }
}

/// Moves a flavour to a series if that works, and says so; otherwise what broke, and `false`.
fn move_to(cache: &Cache, flavour: &Flavour, series: &str, lock_file: &Path) -> Result<bool> {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let checkout = checkout.canonicalize().context("the checkout is gone")?;
    let trial = checkout.join("build/trial");
    flavour.check_suite()?;
    let mut lock = Lock::load(lock_file)?;
    let change = prepare::move_to(cache, flavour, series, &mut lock)?;
    let text = lock.to_text()?;
    let tried = trial.join("kernel.lock");
    cache::write_whole(&tried, text.as_bytes())?;
    let outcome = trial::run(&checkout, &flavour.name, &[(LOCK, &tried)], &trial)?;
    let printed = match &outcome {
        Ok(told) => {
            cache::write_whole(lock_file, text.as_bytes())?;
            format!("{change}{told}")
        }
        Err(broken) => format!("{change} does not work, kernel.lock is as it was\n{broken}"),
    };
    writeln!(io::stdout(), "{printed}").context("cannot write the result")?;
    Ok(outcome.is_ok())
}

/// Does what was asked for. `false` means no.
fn run(args: Args) -> Result<bool> {
    // Flavours and the lock file are data of the checkout that this program was built from.
    let data = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock_file = env::var_os(LOCK).map_or_else(|| data.join("kernel.lock"), PathBuf::from);
    let flavours = data.join("flavours");
    let cache = || Cache::open(&args.cache);
    let kernels = || -> Result<Kernels> {
        Ok(Kernels {
            cache: cache()?,
            flavours: &flavours,
            lock: Lock::load(&lock_file)?,
            rustc: kdir::rustc_version()?,
        })
    };
    let printed = match args.command {
        Command::Prepare {
            flavour,
            patch,
            out,
        } => {
            let (manifest, path) = kernels()?.prepare(&flavour, &patch)?;
            manifest::write(&manifest, out.as_deref())?;
            path.display().to_string()
        }
        Command::Ready { flavour } => match kernels()?.ready(&flavour)? {
            Some((_, path)) => path.display().to_string(),
            None => {
                eprintln!("testbed: the kernel {flavour} is not ready in the cache");
                return Ok(false);
            }
        },
        Command::CheckKdir {
            dir,
            llvm,
            boot,
            out,
        } => {
            let rustc = kdir::rustc_version()?;
            let manifest = kdir::check(&dir, llvm.as_deref(), boot, &rustc)?;
            manifest::write(&manifest, out.as_deref())?;
            serde_json::to_string_pretty(&manifest)?
        }
        Command::UpdateLock {
            series: Some(series),
            flavour,
        } => {
            let flavour = Flavour::load(&flavours, &flavour)?;
            return move_to(&cache()?, &flavour, &series, &lock_file);
        }
        Command::UpdateLock { series: None, .. } => {
            let flavours = Flavour::load_all(&flavours)?;
            prepare::update_lock(&cache()?, &flavours, &lock_file)?.join("\n")
        }
        Command::RustProject { dir, root } => {
            let file = dir.join("rust-project.json");
            let text = fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let crates = kbuild::crates(&dir)?;
            let project = project::complete(serde_json::from_str(&text)?, &crates, &root)?;
            serde_json::to_string(&project)?
        }
        Command::Rustdoc { dir, name, to } => {
            let crates = kbuild::crates(&dir)?;
            let one = crates
                .iter()
                .find(|one| one.name == name)
                .ok_or_else(|| anyhow!("no crate {name} was built in {}", dir.display()))?;
            one.document(&dir, &to)?;
            to.join(name).join("index.html").display().to_string()
        }
    };
    writeln!(io::stdout(), "{printed}").context("cannot write the result")?;
    Ok(true)
}
