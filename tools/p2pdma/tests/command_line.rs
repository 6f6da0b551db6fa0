// SPDX-License-Identifier: GPL-2.0

//! What the command line promises: help with examples, and exit status 2 for what cannot be run.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

fn p2pdma(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_p2pdma"))
        .args(args)
        .env_remove("P2PDMA_SCRATCH")
        .env_remove("P2PDMA_EXPECT")
        .env_remove("P2PDMA_HOST_BRIDGES")
        .output()
        .expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_has_examples() {
    for args in [
        &["--help"][..],
        &["show", "--help"],
        &["check", "--help"],
        &["verify", "--help"],
        &["capture", "--help"],
        &["doctor", "--help"],
        &["list", "--help"],
        &["bind", "--help"],
        &["unbind", "--help"],
        &["publish", "--help"],
        &["unpublish", "--help"],
        &["man", "--help"],
        &["completions", "--help"],
    ] {
        let output = p2pdma(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(
            text(&output.stdout).contains("Examples:\n  p2pdma "),
            "{args:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_said_once_and_does_not_run() {
    for (args, said) in [
        (&["sho"][..], "a similar subcommand exists: 'show'"),
        (&["verify", "--size", "1000"], "not a multiple of 512"),
        (
            &["check", "ff:1f.7"],
            "there is no PCI function 0000:ff:1f.7",
        ),
        (
            &["check", "--explain", "nothing"],
            "there is no check 'nothing'",
        ),
        (
            &["check", "a", "b", "--from", "/nonexistent"],
            "cannot read /nonexistent",
        ),
        (&["bind", "05:00.0", "--bar", "9"], "9 is not in 0..=5"),
        (&["bind"], "arguments were not provided"),
        (
            &["unbind", "ff:1f.7"],
            "there is no PCI function 0000:ff:1f.7",
        ),
        (&["verify", "--size", "0"], "nothing would be moved"),
        (
            &["verify", "--provider", "nvme0"],
            "'nvme0' is not a PCI address",
        ),
        (&["verify", "--seed", "-1"], "unexpected argument"),
        (
            &["verify", "--seed", "65536"],
            "not a number from 0 to 0xffff",
        ),
    ] {
        let output = p2pdma(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error = text(&output.stderr);
        assert_eq!(error.matches(said).count(), 1, "{args:?}: {error}");
    }
}

#[test]
fn output_is_plain_when_it_is_no_terminal() {
    let output = p2pdma(&["show"]);
    assert!(!output.stdout.contains(&0x1b));
}

/// What is no log, and a machine without functions, give no answer, not a good one.
#[test]
fn nothing_gives_no_answer() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, content, said, status) in [
        ("empty", &b""[..], "is empty", 2),
        ("blank", b"\n\n", "is empty", 2),
        ("binary", b"\x7fELF\0\0", "is no text", 2),
        ("log", b"[    0.1] Linux version 7.3.4\n", "", 0),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).expect("a file");
        let output = p2pdma(&["doctor", path.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(status), "{name}");
        assert!(text(&output.stderr).contains(said), "{name}");
    }
    let functions = dir.path().join("sys/bus/pci/devices");
    std::fs::create_dir_all(functions).expect("a directory");
    let output = p2pdma(&["check", "--from", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// A copy of a machine with a function of conventional PCI.
fn machine() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let function = dir.path().join("sys/bus/pci/devices/0000:00:01.0");
    fs::create_dir_all(&function).expect("a directory");
    for (name, content) in [
        ("vendor", "0x8086\n"),
        ("device", "0x1234\n"),
        ("class", "0x020000\n"),
    ] {
        fs::write(function.join(name), content).expect("a file");
    }
    dir
}

/// An environment variable that is empty is as one that is not there, and what is empty on the
/// command line takes the place of what is in the environment.
#[test]
fn no_host_bridges_are_none() {
    let dir = machine();
    let check = |variable: Option<&str>, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2pdma"));
        command.args(["check", "--from"]).arg(dir.path()).args(args);
        match variable {
            Some(value) => command.env("P2PDMA_HOST_BRIDGES", value),
            None => command.env_remove("P2PDMA_HOST_BRIDGES"),
        };
        let output = command.output().expect("the program runs");
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let unset = check(None, &[]);
    // no host bridge can be told by a function at 01.0 that is no port
    assert!(unset.1.contains("neither function 00.0"), "{unset:?}");
    assert_eq!(unset.2, "");
    for value in ["", ",", "8086:1234,"] {
        assert_eq!(check(Some(value), &[]), unset, "{value:?}");
    }
    assert_eq!(check(Some("nonsense"), &["--host-bridge="]), unset);
    for value in ["nonsense", ",nonsense", "8086"] {
        let (status, out, error) = check(Some(value), &[]);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{value}");
        assert!(
            error.contains("it is VENDOR:DEVICE, as lspci -n prints them"),
            "{error}"
        );
    }
}

/// As `head` does: nothing is wrong then.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = machine();
    for args in [
        &["show"][..],
        &["show", "--json"],
        &["check", "--json"],
        &["topo", "--json"],
        &["list", "--json"],
    ] {
        let (reader, writer) = UnixStream::pair().expect("a pair");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_p2pdma"))
            .args(args)
            .arg("--from")
            .arg(dir.path())
            .stdout(OwnedFd::from(writer))
            .output()
            .expect("the program runs");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}
