// SPDX-License-Identifier: GPL-2.0

//! Derives mutants from a C source: what is changed, and where.
//!
//! Each is one small change in one function. Whether it compiles is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{anyhow, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};
use tree_sitter::{Node, Parser};

/// Calls that are kept: what they do is not to be seen in what a function does, but in how it is
/// checked (RCU, on a kernel without its debugging) or what is printed.
const KEPT: &str = concat!(
    r"^(__)?(rcu_read_(un)?lock|(pr|dev|pci)_(info|warn|err|dbg|notice).*|printk.*",
    r"|(VM_)?(WARN|BUG).*|lockdep_.*|might_.*|smp_.*)$"
);

/// Calls that hand back their first argument, with a reference taken.
const GETS: &str = r"(^|_)get$|^get_|_get_device$";

/// Kinds of change.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// `if (c)` becomes `if (!(c))`.
    ConditionNegated,
    /// `if (c)` becomes `if ((c) && 0)`: what it guards is never done.
    ConditionDropped,
    /// One side of `a && b` or `a || b` is left out.
    OperandDropped,
    /// One bit of `A | B`, or the mask of `a & B`, is left out.
    BitDropped,
    /// `<` becomes `<=`, `==` becomes `!=`.
    ComparisonChanged,
    /// `+` becomes `-`.
    ArithmeticChanged,
    /// A number becomes the next one, `true` becomes `false`.
    ConstantChanged,
    /// A call whose result nobody wants is left out, or a reference is not taken.
    CallDropped,
    /// Two arguments that are next to each other change places.
    ArgumentsSwapped,
    /// An assignment is left out.
    AssignmentDropped,
    /// An error becomes success.
    ErrorIgnored,
    /// `continue` or `break` is left out.
    JumpDropped,
}

impl Operator {
    /// As it is written in files and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConditionNegated => "condition-negated",
            Self::ConditionDropped => "condition-dropped",
            Self::OperandDropped => "operand-dropped",
            Self::BitDropped => "bit-dropped",
            Self::ComparisonChanged => "comparison-changed",
            Self::ArithmeticChanged => "arithmetic-changed",
            Self::ConstantChanged => "constant-changed",
            Self::CallDropped => "call-dropped",
            Self::ArgumentsSwapped => "arguments-swapped",
            Self::AssignmentDropped => "assignment-dropped",
            Self::ErrorIgnored => "error-ignored",
            Self::JumpDropped => "jump-dropped",
        }
    }
}

/// One change of one function.
#[derive(Clone, Debug)]
pub struct Change {
    /// What kind it is.
    pub operator: Operator,
    /// The bytes of the source that it takes the place of.
    pub range: Range<usize>,
    /// The text that takes their place.
    pub text: String,
}

/// A function, and what can be changed in it.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// All of it, in bytes of the source.
    pub range: Range<usize>,
    /// Its body, with the braces.
    pub body: Range<usize>,
    /// Its name, where it is declared.
    pub name_range: Range<usize>,
    /// `static`, `inline` and the like before it.
    pub storage: Vec<Range<usize>>,
    /// The names of its parameters.
    pub parameters: Vec<String>,
    /// Whether it returns nothing.
    pub is_void: bool,
    /// What can be changed.
    pub changes: Vec<Change>,
}

/// Finds the functions of a C source, and all changes of each.
pub fn functions(source: &str) -> Result<Vec<Function>> {
    let mut parser = Parser::new();
    parser.set_language(&tree_sitter_c::LANGUAGE.into())?;
    let tree = parser
        .parse(source, None)
        .ok_or_else(|| anyhow!("the C parser gave up"))?;
    let mut found = Vec::new();
    walk(tree.root_node(), &mut |node| {
        if node.kind() != "function_definition" {
            return true;
        }
        found.extend(function(node, source));
        false
    });
    Ok(found)
}

/// Visits a node and, where that wants it, what is below it.
fn walk<'tree>(node: Node<'tree>, visit: &mut dyn FnMut(Node<'tree>) -> bool) {
    if visit(node) {
        let mut cursor = node.walk();
        for child in node.children(&mut cursor) {
            walk(child, visit);
        }
    }
}

fn text<'a>(node: Node<'_>, source: &'a str) -> &'a str {
    &source[node.byte_range()]
}

/// The name that a declarator declares.
fn declared(node: Node<'_>) -> Option<Node<'_>> {
    match node.kind() {
        "identifier" => Some(node),
        _ => declared(node.child_by_field_name("declarator")?),
    }
}

/// The declarator of a function within one that may point at what it returns.
fn function_declarator(node: Node<'_>) -> Option<Node<'_>> {
    match node.kind() {
        "function_declarator" => Some(node),
        _ => function_declarator(node.child_by_field_name("declarator")?),
    }
}

/// `None` for what is not called like a function: a macro that declares one, or a parameter
/// without a name.
fn function(node: Node<'_>, source: &str) -> Option<Function> {
    let outer = node.child_by_field_name("declarator")?;
    let declarator = function_declarator(outer)?;
    let name = declared(declarator)?;
    let body = node.child_by_field_name("body")?;
    let mut parameters = Vec::new();
    let list = declarator.child_by_field_name("parameters")?;
    for parameter in list.named_children(&mut list.walk()) {
        match parameter.child_by_field_name("declarator") {
            Some(declarator) => parameters.push(text(declared(declarator)?, source).to_owned()),
            None if text(parameter, source) == "void" => (),
            None if parameter.kind() == "comment" => (),
            None => return None,
        }
    }
    let storage = node
        .children(&mut node.walk())
        .filter(|child| child.kind() == "storage_class_specifier")
        .map(|child| child.byte_range())
        .collect();
    let is_void = outer.kind() == "function_declarator"
        && text(node.child_by_field_name("type")?, source) == "void";
    let mut finder = Finder {
        source,
        kept: Regex::new(KEPT).ok()?,
        gets: Regex::new(GETS).ok()?,
        changes: Vec::new(),
    };
    finder.statement(body);
    let mut seen = BTreeSet::new();
    finder.changes.retain(|change| {
        source[change.range.clone()] != change.text
            && seen.insert(mutated(source, &node.byte_range(), change))
    });
    Some(Function {
        name: text(name, source).to_owned(),
        range: node.byte_range(),
        body: body.byte_range(),
        name_range: name.byte_range(),
        storage,
        parameters,
        is_void,
        changes: finder.changes,
    })
}

/// A piece of the source, changed.
pub fn mutated(source: &str, piece: &Range<usize>, change: &Change) -> String {
    format!(
        "{}{}{}",
        &source[piece.start..change.range.start],
        change.text,
        &source[change.range.end..piece.end]
    )
}

/// Looks for what can be changed in one function.
struct Finder<'a> {
    source: &'a str,
    kept: Regex,
    gets: Regex,
    changes: Vec<Change>,
}

impl Finder<'_> {
    fn add(&mut self, operator: Operator, node: Node<'_>, text: impl Into<String>) {
        self.changes.push(Change {
            operator,
            range: node.byte_range(),
            text: text.into(),
        });
    }

    fn text(&self, node: Node<'_>) -> &str {
        text(node, self.source)
    }

    fn is_kept(&self, call: Node<'_>) -> bool {
        let name = call.child_by_field_name("function");
        name.is_some_and(|name| self.kept.is_match(self.text(name)))
    }

    /// What changes as a whole, and then all that is within.
    fn statement(&mut self, node: Node<'_>) {
        match node.kind() {
            // Declarations of types, and what is only printed.
            "sizeof_expression"
            | "comment"
            | "type_descriptor"
            | "array_declarator"
            | "struct_specifier"
            | "enum_specifier"
            | "attribute_specifier" => return,
            "call_expression" if self.is_kept(node) => return,
            "if_statement" | "while_statement" => {
                if let Some(condition) = node.child_by_field_name("condition") {
                    let inner = self.text(condition).to_owned();
                    self.add(Operator::ConditionNegated, condition, format!("(!{inner})"));
                    self.add(
                        Operator::ConditionDropped,
                        condition,
                        format!("({inner} && 0)"),
                    );
                }
            }
            "conditional_expression" => {
                if let Some(condition) = node.child_by_field_name("condition") {
                    let inner = self.text(condition).to_owned();
                    self.add(Operator::ConditionNegated, condition, format!("!({inner})"));
                }
            }
            "binary_expression" => self.binary(node),
            "unary_expression" if !is_condition(node) => {
                if let (Some("!"), Some(argument)) = (
                    node.child_by_field_name("operator").map(|o| self.text(o)),
                    node.child_by_field_name("argument"),
                ) {
                    let inner = self.text(argument).to_owned();
                    self.add(Operator::ConditionNegated, node, format!("!!({inner})"));
                }
            }
            "number_literal" if counts(node) => {
                let number = self.text(node).to_owned();
                let next = match number.parse::<u64>() {
                    Ok(number) => (number + 1).to_string(),
                    Err(_) => format!("({number} + 1)"),
                };
                self.add(Operator::ConstantChanged, node, next);
            }
            "true" => self.add(Operator::ConstantChanged, node, "false"),
            "false" => self.add(Operator::ConstantChanged, node, "true"),
            "expression_statement" => self.expression_statement(node),
            "call_expression" => self.swap_arguments(node),
            "assignment_expression" | "init_declarator" => self.reference_not_taken(node),
            "return_statement" => self.return_statement(node),
            "continue_statement" | "break_statement" if !in_switch(node) => {
                self.add(Operator::JumpDropped, node, ";");
            }
            _ => (),
        }
        let mut cursor = node.walk();
        for child in node.named_children(&mut cursor) {
            self.statement(child);
        }
    }

    fn binary(&mut self, node: Node<'_>) {
        let (Some(left), Some(operator), Some(right)) = (
            node.child_by_field_name("left"),
            node.child_by_field_name("operator"),
            node.child_by_field_name("right"),
        ) else {
            return;
        };
        let (a, b) = (self.text(left).to_owned(), self.text(right).to_owned());
        let sign = self.text(operator).to_owned();
        match &*sign {
            "&&" | "||" => {
                self.add(Operator::OperandDropped, node, &*a);
                self.add(Operator::OperandDropped, node, &*b);
            }
            "|" => {
                self.add(Operator::BitDropped, node, &*a);
                self.add(Operator::BitDropped, node, &*b);
            }
            "&" => self.add(Operator::BitDropped, node, &*a),
            "==" | "!=" if is_condition(node) => (),
            "<" | ">" | "<=" | ">=" | "==" | "!=" => {
                let other = match &*sign {
                    "<" => "<=",
                    ">" => ">=",
                    "<=" => "<",
                    ">=" => ">",
                    "==" => "!=",
                    _ => "==",
                };
                self.add(Operator::ComparisonChanged, operator, other);
            }
            "+" => self.add(Operator::ArithmeticChanged, operator, "-"),
            "-" => self.add(Operator::ArithmeticChanged, operator, "+"),
            "<<" => self.add(Operator::ArithmeticChanged, operator, ">>"),
            ">>" => self.add(Operator::ArithmeticChanged, operator, "<<"),
            "/" => self.add(Operator::ArithmeticChanged, operator, "*"),
            _ => (),
        }
    }

    fn expression_statement(&mut self, node: Node<'_>) {
        let Some(inner) = node.named_child(0) else {
            return;
        };
        match inner.kind() {
            "call_expression" if !self.is_kept(inner) && !is_loop(node) => {
                self.add(Operator::CallDropped, node, ";");
            }
            "update_expression" => self.add(Operator::AssignmentDropped, node, ";"),
            "assignment_expression" => {
                let Some(right) = inner.child_by_field_name("right") else {
                    return;
                };
                let value = self.text(right).to_owned();
                if value.starts_with("-E") {
                    self.add(Operator::ErrorIgnored, right, "0");
                }
                if !contains(right, "call_expression") {
                    self.add(Operator::AssignmentDropped, node, ";");
                }
            }
            _ => (),
        }
    }

    fn reference_not_taken(&mut self, node: Node<'_>) {
        let value = node
            .child_by_field_name("right")
            .or_else(|| node.child_by_field_name("value"));
        let Some(call) = value.filter(|value| value.kind() == "call_expression") else {
            return;
        };
        let (Some(name), Some(arguments)) = (
            call.child_by_field_name("function"),
            call.child_by_field_name("arguments"),
        ) else {
            return;
        };
        if self.gets.is_match(self.text(name)) && arguments.named_child_count() == 1 {
            if let Some(argument) = arguments.named_child(0) {
                let argument = self.text(argument).to_owned();
                self.add(Operator::CallDropped, call, format!("({argument})"));
            }
        }
    }

    fn swap_arguments(&mut self, node: Node<'_>) {
        let Some(arguments) = node.child_by_field_name("arguments") else {
            return;
        };
        let all: Vec<Node<'_>> = arguments.named_children(&mut arguments.walk()).collect();
        // Types can be arguments of macros.
        if arguments.has_error() || self.text(arguments).contains("struct ") {
            return;
        }
        for pair in all.windows(2) {
            let [first, second] = pair else { continue };
            if first.kind() == "type_descriptor" || second.kind() == "string_literal" {
                continue;
            }
            let range = first.start_byte()..second.end_byte();
            let between = &self.source[first.end_byte()..second.start_byte()];
            let text = format!("{}{between}{}", self.text(*second), self.text(*first));
            self.changes.push(Change {
                operator: Operator::ArgumentsSwapped,
                range,
                text,
            });
        }
    }

    fn return_statement(&mut self, node: Node<'_>) {
        let Some(value) = node.named_child(0) else {
            return;
        };
        let is_error = matches!(self.text(value), "ret" | "error" | "err" | "-1")
            || self.text(value).starts_with("-E");
        if is_error {
            self.add(Operator::ErrorIgnored, value, "0");
        }
    }
}

/// Whether it is all that an `if` or a loop asks.
fn is_condition(node: Node<'_>) -> bool {
    node.parent().is_some_and(|parent| {
        parent.kind() == "parenthesized_expression"
            && parent
                .parent()
                .is_some_and(|above| matches!(above.kind(), "if_statement" | "while_statement"))
    })
}

/// Whether a number is one that is counted or compared with: not part of a type, a label or an
/// error.
fn counts(node: Node<'_>) -> bool {
    node.parent().is_some_and(|parent| {
        !matches!(
            parent.kind(),
            "unary_expression"
                | "case_statement"
                | "return_statement"
                | "enumerator"
                | "bitfield_clause"
        )
    })
}

/// A macro that begins a loop looks like a call to the parser, and the loop like a block after it.
fn is_loop(node: Node<'_>) -> bool {
    let mut cursor = node.walk();
    let ends = node
        .children(&mut cursor)
        .any(|child| child.kind() == ";" && !child.is_missing());
    !ends
}

/// Whether a `break` belongs to a `switch`.
fn in_switch(node: Node<'_>) -> bool {
    if node.kind() == "continue_statement" {
        return false;
    }
    let mut above = node.parent();
    while let Some(node) = above {
        match node.kind() {
            "switch_statement" => return true,
            "for_statement" | "while_statement" | "do_statement" => return false,
            _ => above = node.parent(),
        }
    }
    false
}

fn contains(node: Node<'_>, kind: &str) -> bool {
    let mut found = false;
    walk(node, &mut |node| {
        found |= node.kind() == kind;
        !found
    });
    found
}

/// Names for changes that stay the same when lines move: function, kind, what was there, and a
/// number where that is there several times.
pub fn names(source: &str, function: &Function) -> Vec<String> {
    let mut counts = BTreeMap::new();
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    function
        .changes
        .iter()
        .map(|change| {
            let name = format!(
                "{}: {}: {} -> {}",
                function.name,
                change.operator.name(),
                squeeze(&source[change.range.clone()]),
                squeeze(&change.text),
            );
            let count = counts.entry(name.clone()).or_insert(0);
            *count += 1;
            match *count {
                1 => name,
                count => format!("{name} #{count}"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "
static int __maybe first(struct dev *dev, u16 mask)
{
	int i, ret = 0;

	if (!dev || mask & (A | B))
		return -EINVAL;
	for (i = 0; i < MAX; i++) {
		if (i == 3)
			continue;
		use(dev, mask);
	}
	for_each_dev(dev) {
		put_device(dev);
	}
	rcu_read_lock();
	dev->list[i] = get_device(dev);
	return ret;
}

void second(void)
{
	third();
}
";

    fn changed(name: &str) -> Vec<String> {
        let all = functions(EXAMPLE).expect("parsed");
        let one = all.iter().find(|function| function.name == name);
        names(EXAMPLE, one.expect("there"))
    }

    #[test]
    fn functions_are_described() {
        let all = functions(EXAMPLE).expect("parsed");
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].parameters, ["dev", "mask"]);
        assert!(!all[0].is_void && all[1].is_void);
        assert_eq!(&EXAMPLE[all[0].storage[0].clone()], "static");
        assert!(all[1].parameters.is_empty());
    }

    #[test]
    fn each_kind_of_change_is_found() {
        let changes = changed("first");
        for expected in [
            "condition-negated: (i == 3) -> (!(i == 3))",
            "condition-dropped: (i == 3) -> ((i == 3) && 0)",
            "operand-dropped: !dev || mask & (A | B) -> !dev",
            "bit-dropped: A | B -> B",
            "bit-dropped: mask & (A | B) -> mask",
            "comparison-changed: < -> <=",
            "constant-changed: 3 -> 4",
            "call-dropped: put_device(dev); -> ;",
            "call-dropped: get_device(dev) -> (dev)",
            "arguments-swapped: dev, mask -> mask, dev",
            "error-ignored: -EINVAL -> 0",
            "error-ignored: ret -> 0",
            "jump-dropped: continue; -> ;",
        ] {
            let expected = format!("first: {expected}");
            assert!(
                changes.contains(&expected),
                "{expected} is not in {changes:#?}"
            );
        }
    }

    #[test]
    fn what_only_checkers_see_is_left_alone() {
        let changes = changed("first").join("\n");
        assert!(!changes.contains("rcu_read_lock"), "{changes}");
        assert!(!changes.contains("call-dropped: for_each_dev"), "{changes}");
    }

    #[test]
    fn a_name_is_there_once() {
        let changes = changed("first");
        let names: BTreeSet<&String> = changes.iter().collect();
        assert_eq!(names.len(), changes.len());
    }

    #[test]
    fn a_change_replaces_its_own_bytes() {
        let all = functions(EXAMPLE).expect("parsed");
        let second = &all[1];
        assert_eq!(second.changes.len(), 1);
        let text = mutated(EXAMPLE, &second.range, &second.changes[0]);
        assert_eq!(text, "void second(void)\n{\n\t;\n}");
    }
}
