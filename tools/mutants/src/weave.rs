// SPDX-License-Identifier: GPL-2.0

//! Puts all mutants of a file into one source: each as a copy of its function, which the original
//! hands over to if the kernel's command line says so. So one kernel has them all, and no mutant
//! costs more than a boot.

use std::fmt::Write as _;
use std::ops::Range;

use crate::derive::{mutated, Change, Function};

/// The kernel's parameter, and the variable that has it.
pub const PARAMETER: &str = "p2pdma_mutant";

/// What one file of the kernel has to define.
pub const DEFINITION: &str = "
#include <linux/moduleparam.h>
extern unsigned int p2pdma_mutant;
unsigned int p2pdma_mutant __read_mostly;
core_param(p2pdma_mutant, p2pdma_mutant, uint, 0444);
";

/// A change of a function, and its number.
pub type Numbered<'a> = (u32, &'a Change);

/// A source with all mutants in it.
pub struct Woven {
    /// The source.
    pub text: String,
    /// The lines of each mutant, counted from one.
    pub lines: Vec<(Range<usize>, u32)>,
}

impl Woven {
    /// The mutant that a line belongs to.
    pub fn mutant_at(&self, line: usize) -> Option<u32> {
        let found = self.lines.iter().find(|(lines, _)| lines.contains(&line));
        found.map(|(_, number)| *number)
    }
}

/// Weaves `mutants` into `source`: functions in the order of the source, with the changes to be
/// made. `define` also defines the parameter.
pub fn weave(source: &str, mutants: &[(&Function, Vec<Numbered<'_>>)], define: bool) -> Woven {
    let mut text = String::new();
    let mut lines = Vec::new();
    let mut at = 0;
    let mut define = define;
    for (function, changes) in mutants.iter().filter(|(_, changes)| !changes.is_empty()) {
        text += &source[at..function.range.start];
        text += if std::mem::take(&mut define) {
            DEFINITION
        } else {
            "extern unsigned int p2pdma_mutant;\n"
        };
        for (number, change) in changes {
            let first = line_of(&text);
            text += &copy(source, function, *number, change);
            lines.push((first..line_of(&text), *number));
            text += "\n";
        }
        // The original: all up to the brace that its body begins with, and who takes its place.
        let body = function.body.start + 1;
        text += &source[function.range.start..body];
        text += &dispatch(function, changes);
        text += &source[body..function.range.end];
        at = function.range.end;
    }
    text += &source[at..];
    Woven { text, lines }
}

/// The number of the line that comes next.
fn line_of(text: &str) -> usize {
    text.matches('\n').count() + 1
}

/// The name of a mutant's function.
fn name(function: &Function, number: u32) -> String {
    format!("{}__m{number}", function.name)
}

/// A copy of a function, with a name of its own and one change.
fn copy(source: &str, function: &Function, number: u32, change: &Change) -> String {
    let mut head = source[function.range.start..function.body.start].to_owned();
    let start = function.range.start;
    let within = |range: &Range<usize>| range.start - start..range.end - start;
    // From the end to the front, so that what is still to be changed keeps its place.
    head.replace_range(within(&function.name_range), &name(function, number));
    for storage in function.storage.iter().rev() {
        head.replace_range(within(storage), "");
    }
    let body = mutated(source, &function.body, change);
    format!("static noinline {}{body}\n", head.trim_start())
}

/// What comes first in the original.
fn dispatch(function: &Function, changes: &[Numbered<'_>]) -> String {
    let arguments = function.parameters.join(", ");
    let mut text = String::from("\n\tswitch (p2pdma_mutant) {\n");
    for (number, _) in changes {
        let call = format!("{}({arguments})", name(function, *number));
        let call = if function.is_void {
            format!("{call}; return;")
        } else {
            format!("return {call};")
        };
        let _ = writeln!(text, "\tcase {number}: {call}");
    }
    text + "\tdefault: break;\n\t}\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::derive::functions;

    const SOURCE: &str = "#include <x>\n\nstatic inline int one(int a)\n{\n\treturn a + 1;\n}\n\n\
                          void two(void)\n{\n\tone(3);\n}\n";

    fn woven() -> Woven {
        let all = functions(SOURCE).expect("parsed");
        let mut number = 0;
        let mutants: Vec<_> = all
            .iter()
            .map(|function| {
                let changes = function.changes.iter().map(|change| {
                    number += 1;
                    (number, change)
                });
                (function, changes.collect())
            })
            .collect();
        weave(SOURCE, &mutants, true)
    }

    #[test]
    fn the_original_hands_over() {
        let text = woven().text;
        assert!(text.contains("case 1: return one__m1(a);"), "{text}");
        assert!(text.contains("__m3(); return;"), "{text}");
        assert!(text.contains("core_param(p2pdma_mutant"), "{text}");
        assert!(text.ends_with("\n\tone(3);\n}\n"), "{text}");
    }

    #[test]
    fn copies_are_static_and_changed() {
        let text = woven().text;
        assert!(
            text.contains("static noinline int one__m1(int a)\n{\n\treturn a - 1;\n}"),
            "{text}"
        );
        assert!(text.contains("static noinline void two__m"), "{text}");
    }

    #[test]
    fn a_line_tells_its_mutant() {
        let woven = woven();
        let at = |what: &str| {
            let line = woven.text.lines().position(|line| line.contains(what));
            woven.mutant_at(line.expect("there") + 1)
        };
        assert_eq!(at("return a - 1;"), Some(1));
        assert_eq!(at("return a + 2;"), Some(2));
        assert_eq!(at("return a + 1;"), None);
        assert_eq!(woven.mutant_at(1), None);
    }
}
