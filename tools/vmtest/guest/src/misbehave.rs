// SPDX-License-Identifier: GPL-2.0

//! A test program that does what no test should, so that the runner can be tested.

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::system::{reboot, RebootCommand};

/// What it knows.
pub const WAYS: &str = "pass|fail|lie|short|empty|skip|abort|hang|orphan|flood|\
                        sysrq KEY|log TEXT|crash TEXT|halt|poweroff";

/// Does one of [`WAYS`].
pub fn main(how: &str) -> ExitCode {
    match how {
        "pass" => ktap("1..1\nok 1 fine", 0),
        "fail" => ktap("1..2\nok 1 fine\nnot ok 2 broken", 1),
        // Status and results contradict each other.
        "lie" => ktap("1..2\nok 1 fine\nnot ok 2 broken", 0),
        // Fewer results than planned.
        "short" => ktap("1..3\nok 1 fine", 0),
        "empty" => ktap("1..0", 0),
        "skip" => ktap("1..0 # SKIP nothing to test here", 4),
        "abort" => std::process::abort(),
        "hang" => {
            println!("waiting for ever");
            sleep_for_ever()
        }
        // Leaves a child behind that holds the output open.
        "orphan" => {
            let child = Command::new("/proc/self/exe")
                .args(["misbehave", "hang"])
                .spawn();
            if let Err(error) = child {
                println!("{error}");
                return ExitCode::FAILURE;
            }
            ktap("1..1\nok 1 left_a_child_behind", 0)
        }
        "flood" => {
            let line = [b"x".repeat(79), b"\n".to_vec()].concat().repeat(1024);
            let mut out = std::io::stdout();
            for _ in 0..200 {
                if out.write_all(&line).is_err() {
                    return ExitCode::FAILURE;
                }
            }
            ExitCode::SUCCESS
        }
        "halt" => stop(RebootCommand::Halt),
        "poweroff" => stop(RebootCommand::PowerOff),
        _ => ExitCode::from(2),
    }
}

/// Does one of [`WAYS`] that takes an argument.
pub fn with(how: &str, argument: &str) -> ExitCode {
    match how {
        "log" => write("/dev/kmsg", argument),
        "sysrq" => write("/proc/sysrq-trigger", argument),
        // As if the kernel died of it.
        "crash" => {
            let _ = write("/dev/kmsg", argument);
            write("/proc/sysrq-trigger", "c")
        }
        _ => ExitCode::from(2),
    }
}

fn ktap(results: &str, code: u8) -> ExitCode {
    println!("TAP version 13\n{results}");
    ExitCode::from(code)
}

fn write(path: &str, text: &str) -> ExitCode {
    match fs::write(path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn stop(how: RebootCommand) -> ExitCode {
    match reboot(how) {
        Ok(()) => sleep_for_ever(),
        Err(error) => {
            println!("reboot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
