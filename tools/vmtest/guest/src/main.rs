// SPDX-License-Identifier: GPL-2.0

//! Init of the guest: mounts, loads modules, runs the tests of its plan, reports, powers off.
//!
//! Started as anything but process 1 it is the misbehaving test program of the runner's own tests.

mod exec;
mod init;
mod misbehave;
mod report;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::main()
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["misbehave", how] => misbehave::main(how),
        ["misbehave", how, argument] => misbehave::with(how, argument),
        _ => {
            eprintln!(
                "vmtest-guest is the init of the guests that `vmtest` boots; it is not run by \
                 hand.\n\
                 usage (inside a guest): vmtest-guest misbehave {}",
                misbehave::WAYS
            );
            ExitCode::from(2)
        }
    }
}
