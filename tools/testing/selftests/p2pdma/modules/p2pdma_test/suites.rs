// SPDX-License-Identifier: GPL-2.0

//! Tests that need no program: `/sys/kernel/debug/p2pdma_test/`.
//!
//! - `list` shows the suites and their cases;
//! - what is written to `run` is run: `all`, or the names of suites and of cases
//!   (`<suite>.<case>`), with white space between them. The write returns when all is done, with
//!   the number of bytes, whatever the tests said;
//! - `results` shows what they said, as nested KTAP: suite, provider, case.
//!
//! Each case runs once for each provider that is bound, under the provider's lock, and has to leave
//! its pool as it found it. There is nothing that a run leaves behind for the next one.

use kernel::{
    debugfs::Scope,
    fmt::{
        self,
        Write, //
    },
    new_mutex,
    pci,
    prelude::*,
    sync::{
        aref::ARef,
        Mutex, //
    },
    uaccess::UserSliceReader, //
};
use p2pdma::{
    pci::{
        bound::BoundDevice,
        devices::{
            self,
            Address, //
        }, //
    },
    pool::Pool, //
};

mod map;
mod memory;
mod orchestrate;
mod pool;
mod sgl;

/// All suites, in the order in which they are run.
const SUITES: &[Suite] = &[
    pool::SUITE,
    memory::SUITE,
    sgl::SUITE,
    orchestrate::SUITE,
    map::SUITE,
];

/// Tests of one subject.
pub(crate) struct Suite {
    name: &'static str,
    about: &'static str,
    cases: &'static [Case],
}

/// One test.
pub(crate) struct Case {
    name: &'static str,
    run: fn(&mut Test<'_>) -> Result,
}

/// What a case works with, and tells.
pub(crate) struct Test<'a> {
    provider: &'a pci::Device,
    pool: Pool<'a>,
    out: &'a mut Output,
    failed: bool,
    skipped: Option<&'static str>,
}

impl<'a> Test<'a> {
    /// The device that provides.
    pub(crate) fn provider(&self) -> &'a pci::Device {
        self.provider
    }

    /// Its pool.
    pub(crate) fn pool(&self) -> Pool<'a> {
        self.pool
    }

    /// The case fails, and says why, but goes on.
    pub(crate) fn fail(&mut self, args: fmt::Arguments<'_>) {
        self.failed = true;
        self.out.diagnose(args);
    }

    /// The case has nothing to work with.
    pub(crate) fn skip(&mut self, why: &'static str) {
        self.skipped = Some(why);
    }
}

/// Fails the case unless the condition holds; goes on.
#[macro_export]
macro_rules! expect {
    ($test:expr, $condition:expr, $($arg:tt)*) => {
        if !$condition {
            $test.fail(::kernel::prelude::fmt!($($arg)*));
        }
    };
}

/// Fails the case unless both are equal; goes on.
#[macro_export]
macro_rules! expect_eq {
    ($test:expr, $expected:expr, $found:expr) => {
        match (&$expected, &$found) {
            (expected, found) => {
                if expected != found {
                    $test.fail(::kernel::prelude::fmt!(
                        "line {}: {}: expected {:?}, found {:?}",
                        line!(),
                        stringify!($found),
                        expected,
                        found
                    ));
                }
            }
        }
    };
}

/// KTAP, as it grows.
#[derive(Default)]
struct Output {
    text: KVVec<u8>,
    depth: usize,
    truncated: bool,
}

impl Output {
    fn line(&mut self, args: fmt::Arguments<'_>) {
        let indent = 2 * self.depth;

        self.truncated |= writeln!(self, "{:indent$}{args}", "").is_err();
    }

    fn diagnose(&mut self, args: fmt::Arguments<'_>) {
        self.line(fmt!("# {args}"));
    }

    /// Starts a list of `n` results, of what is called `name`.
    fn begin(&mut self, name: fmt::Arguments<'_>, n: usize) {
        self.depth += 1;
        self.line(fmt!("KTAP version 1"));
        self.line(fmt!("# Subtest: {name}"));
        self.line(fmt!("1..{n}"));
    }

    /// Ends it with the result of the whole, which is number `i` in the list above.
    fn end(&mut self, i: usize, name: fmt::Arguments<'_>, passed: bool) {
        self.depth -= 1;
        self.result(i, name, passed, None);
    }

    fn result(
        &mut self,
        i: usize,
        name: fmt::Arguments<'_>,
        passed: bool,
        skipped: Option<&'static str>,
    ) {
        let status = if passed { "ok" } else { "not ok" };

        match skipped {
            Some(why) if passed => self.line(fmt!("{status} {} {name} # SKIP {why}", i + 1)),
            _ => self.line(fmt!("{status} {} {name}", i + 1)),
        }
    }
}

impl Write for Output {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.text
            .extend_from_slice(s.as_bytes(), GFP_KERNEL)
            .map_err(|_| fmt::Error)
    }
}

/// What of the suites was asked for.
struct Selection<'a> {
    text: &'a str,
}

impl Selection<'_> {
    fn words(&self) -> impl Iterator<Item = &str> {
        self.text.split_ascii_whitespace()
    }

    fn has(&self, suite: &Suite, case: &Case) -> bool {
        self.words().any(|word| names(word, suite, case))
    }

    /// Whether every word names something, and there is one.
    fn check(&self) -> Result {
        let known = |word: &str| {
            SUITES
                .iter()
                .any(|suite| suite.cases.iter().any(|case| names(word, suite, case)))
        };

        if self.words().next().is_none() {
            return Err(crate::refuse!(EINVAL, "nothing to run: see list"));
        }
        match self.words().find(|word| !known(word)) {
            Some(word) => Err(crate::refuse!(
                EINVAL,
                "no suite or case '{word}': see list"
            )),
            None => Ok(()),
        }
    }
}

fn names(word: &str, suite: &Suite, case: &Case) -> bool {
    match word.split_once('.') {
        Some((of, name)) => of == suite.name && name == case.name,
        None => word == "all" || word == suite.name,
    }
}

/// Runs a case on a provider, in its list as number `i`; whether it passed.
fn run_case(
    i: usize,
    case: &Case,
    provider: &pci::Device,
    pool: Pool<'_>,
    out: &mut Output,
) -> Result<bool> {
    let before = pool.measure_free()?;
    let mut test = Test {
        provider,
        pool,
        out,
        failed: false,
        skipped: None,
    };
    let result = (case.run)(&mut test);
    let after = pool.measure_free()?;

    if let Err(error) = result {
        test.fail(fmt!("{error:?}"));
    }
    // User space may take its share meanwhile, and give it back.
    expect!(
        test,
        before == after,
        "{before} bytes were free before, {after} are now"
    );

    let (passed, skipped) = (!test.failed, test.skipped);
    out.result(i, fmt!("{}", case.name), passed, skipped);
    Ok(passed)
}

/// Runs what was asked for of a suite on a provider, in its list as number `i`; whether all passed.
fn run_provider(
    i: usize,
    suite: &Suite,
    selection: &Selection<'_>,
    provider: &pci::Device,
    out: &mut Output,
) -> Result<bool> {
    let address = Address::of(provider);
    let cases = || suite.cases.iter().filter(|case| selection.has(suite, case));
    let mut passed = true;

    out.begin(fmt!("{address}"), cases().count());
    for (n, case) in cases().enumerate() {
        if kernel::current!().signal_pending() {
            return Err(EINTR);
        }

        // Taken anew for each case, so that whoever waits for it gets it.
        passed &= BoundDevice::with(provider.as_ref(), |bound| {
            run_case(n, case, provider, Pool::of(bound)?, out)
        })?;
    }
    out.end(i, fmt!("{address}"), passed);
    Ok(passed)
}

/// All devices that are bound and have a pool.
fn providers() -> Result<KVec<ARef<pci::Device>>> {
    let mut found = KVec::new();

    for dev in devices::all() {
        let provides = BoundDevice::with(dev.as_ref(), |bound| Pool::of(bound).map(|_| ())).is_ok();

        if provides {
            found.push(dev, GFP_KERNEL)?;
        }
    }
    Ok(found)
}

/// Runs what was asked for.
fn run(selection: &Selection<'_>, out: &mut Output) -> Result {
    let providers = providers()?;
    let chosen = || {
        SUITES
            .iter()
            .filter(|suite| suite.cases.iter().any(|case| selection.has(suite, case)))
    };

    out.line(fmt!("KTAP version 1"));
    out.line(fmt!("1..{}", chosen().count()));
    for (i, suite) in chosen().enumerate() {
        let mut passed = true;

        if providers.is_empty() {
            out.result(
                i,
                fmt!("{}", suite.name),
                true,
                Some("no device provides peer-to-peer memory"),
            );
            continue;
        }
        out.begin(fmt!("{}", suite.name), providers.len());
        for (n, provider) in providers.iter().enumerate() {
            passed &= run_provider(n, suite, selection, provider, out)?;
        }
        out.end(i, fmt!("{}", suite.name), passed);
    }
    Ok(())
}

/// What the files in debugfs share.
#[pin_data]
struct State {
    #[pin]
    results: Mutex<KVVec<u8>>,
}

fn show_list(_state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for suite in SUITES {
        writeln!(f, "{}: {}", suite.name, suite.about)?;
        for case in suite.cases {
            writeln!(f, "  {}.{}", suite.name, case.name)?;
        }
    }
    Ok(())
}

fn show_results(state: &State, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let results = state.results.lock();

    f.write_str(core::str::from_utf8(&results).map_err(|_| fmt::Error)?)
}

fn write_run(state: &State, reader: &mut UserSliceReader) -> Result {
    let mut text = [0; 512];
    let len = reader.len();

    if len > text.len() {
        return Err(crate::refuse!(E2BIG, "{len} bytes: at most {}", text.len()));
    }
    reader.read_slice(&mut text[..len])?;

    let selection = Selection {
        text: core::str::from_utf8(&text[..len]).map_err(|_| EINVAL)?,
    };
    selection.check()?;

    // Until it is done: who reads meanwhile waits for the results, and runs do not overlap.
    let mut results = state.results.lock();
    let mut out = Output::default();
    let run = run(&selection, &mut out);

    if run.is_err() || out.truncated {
        // Not what a parser takes for complete, whatever was written so far.
        out.depth = 0;
        out.line(fmt!("Bail out! {:?}", run.err().unwrap_or(ENOMEM)));
    }
    *results = out.text;
    run
}

/// The directory in debugfs, for as long as it exists.
#[pin_data]
pub(crate) struct Files {
    #[pin]
    scope: Scope<State>,
}

impl Files {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            scope <- Scope::dir(
                pin_init!(State {
                    results <- new_mutex!(KVVec::new()),
                }),
                c"p2pdma_test",
                |state, dir| {
                    dir.read_callback_file(c"list", state, &show_list);
                    dir.write_only_callback_file(c"run", state, &write_run);
                    dir.read_callback_file(c"results", state, &show_results);
                },
            ),
        })
    }
}
