// SPDX-License-Identifier: GPL-2.0

//! No file of the library needs one that needs it, and folders use those below them only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path, //
};

/// What there is in `rust/p2pdma`, from the bottom up.
const LAYERS: [&str; 11] = [
    "raw",
    "compat",
    "page",
    "system",
    "pci",
    "pool",
    "provider",
    "client",
    "orchestrator",
    "user",
    "block",
];

/// What there is in `rust/nvmet`, likewise.
const NVMET_LAYERS: [&str; 11] = [
    "bindings",
    "command",
    "ctrl",
    "data",
    "entry",
    "transport",
    "queue",
    "request",
    "connect",
    "registration",
    "client",
];

/// Modules, and those that they use, both by their paths in the crate.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The texts of all modules in `dir`, by their paths.
fn modules(dir: &Path, prefix: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a folder of the library") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let module = format!("{prefix}{name}");

        if path.is_dir() {
            if name != "examples" {
                modules(&path, &format!("{module}::"), found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(module, fs::read_to_string(&path).expect("it is text"));
        }
    }
}

/// What is code: no comments, nor what only tests use.
fn code(text: &str) -> String {
    text.lines()
        .take_while(|line| !line.starts_with("mod tests"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" //").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The paths that a tree of imports stands for: `a::{b, c::d}` for `a::b` and `a::c::d`.
fn flatten(tree: &str, prefix: &str, paths: &mut BTreeSet<String>) {
    let (mut depth, mut start) = (0, 0);
    let mut parts = Vec::new();

    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&tree[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    parts.push(&tree[start..]);
    for part in parts
        .iter()
        .map(|part| part.trim())
        .filter(|part| !part.is_empty())
    {
        match part.split_once('{') {
            Some((head, rest)) => {
                let rest = rest.trim_end().strip_suffix('}').unwrap_or(rest);

                flatten(rest, &format!("{prefix}{}", head.trim()), paths);
            }
            None => {
                paths.insert(format!("{prefix}{part}").replace("::self", ""));
            }
        }
    }
}

/// All paths into the crate that `module` names, as from its root.
fn paths(module: &str, text: &str) -> BTreeSet<String> {
    let code = code(text);
    let mut found = BTreeSet::new();
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);

    for (marker, from) in [("crate::", ""), ("super::", parent), ("pub use ", module)] {
        for (at, _) in code.match_indices(marker) {
            let rest = &code[at + marker.len()..];
            let end = rest
                .char_indices()
                .scan(0, |depth, (at, c)| {
                    *depth += i32::from(c == '{') - i32::from(c == '}');
                    Some((at, c, *depth))
                })
                .find(|&(_, c, depth)| {
                    depth < 0 || depth == 0 && !(c.is_alphanumeric() || "_:{} ".contains(c))
                })
                .map_or(rest.len(), |(at, ..)| at);
            let prefix = if from.is_empty() {
                String::new()
            } else {
                format!("{from}::")
            };

            flatten(&rest[..end], &prefix, &mut found);
        }
    }
    found
}

/// The module that `path` is in, or is.
fn target<'a>(path: &str, modules: &'a BTreeMap<String, String>) -> Option<&'a String> {
    let mut path = path.split(" as ").next().unwrap_or(path).trim();

    loop {
        if let Some((module, _)) = modules.get_key_value(path) {
            return Some(module);
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn graph(root: &str, modules: &BTreeMap<String, String>) -> Graph {
    modules
        .iter()
        .filter(|(module, _)| *module != root)
        .map(|(module, text)| {
            let used = paths(module, text)
                .iter()
                .filter_map(|path| target(path, modules))
                .filter(|used| *used != module)
                .cloned()
                .collect();

            (module.clone(), used)
        })
        .collect()
}

/// A circle, if there is one.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn visit(
        graph: &Graph,
        at: &str,
        trail: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> bool {
        if let Some(start) = trail.iter().position(|module| module == at) {
            trail.drain(..start);
            return true;
        }
        if !done.insert(at.to_owned()) {
            return false;
        }
        trail.push(at.to_owned());
        for next in graph.get(at).into_iter().flatten() {
            if visit(graph, next, trail, done) {
                return true;
            }
        }
        trail.pop();
        false
    }

    let mut done = BTreeSet::new();

    graph.keys().find_map(|module| {
        let mut trail = Vec::new();

        visit(graph, module, &mut trail, &mut done).then_some(trail)
    })
}

/// The modules of a crate in `rust`.
fn library(name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();

    modules(
        &Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../rust")
            .join(name),
        "",
        &mut found,
    );
    assert!(found.len() > 10, "the library is there");
    found
}

#[test]
fn no_file_needs_its_user() {
    let p2pdma = graph("p2pdma", &library("p2pdma"));
    let nvmet = graph("nvmet", &library("nvmet"));

    assert_eq!(circle(&p2pdma), None);
    assert_eq!(circle(&nvmet), None);
    // That something is found at all.
    assert!(
        p2pdma["client::sg"].contains("pool"),
        "{:?}",
        p2pdma["client::sg"]
    );
    assert!(p2pdma["provider::mmio"].contains("provider::bars"));
    assert!(
        nvmet["connect"].contains("request"),
        "{:?}",
        nvmet["connect"]
    );
}

/// Uses of what is above, in a crate whose layers are these, from the bottom up.
fn upwards(name: &str, layers: &[&str]) -> Vec<(String, String)> {
    let level = |module: &str| {
        let top = module.split("::").next().unwrap_or(module);

        layers
            .iter()
            .position(|layer| *layer == top)
            .unwrap_or_else(|| panic!("{top} is in no layer"))
    };

    graph(name, &library(name))
        .iter()
        .flat_map(|(module, used)| used.iter().map(move |used| (module.clone(), used.clone())))
        .filter(|(module, used)| level(module) < level(used))
        .collect()
}

#[test]
fn layers_use_what_is_below_them() {
    assert_eq!(upwards("p2pdma", &LAYERS), []);
    assert_eq!(upwards("nvmet", &NVMET_LAYERS), []);
}

/// Those of a crate that do not say where in the kernel's tree they would go.
fn without_place(name: &str) -> Vec<String> {
    library(name)
        .into_iter()
        .filter(|(_, text)| {
            let head: Vec<_> = text
                .lines()
                .filter_map(|line| line.strip_prefix("//! "))
                .collect();
            let head = head.join(" ");

            !["In the kernel's tree th", "Place: "]
                .iter()
                .any(|words| head.contains(words))
        })
        .map(|(module, _)| module)
        .collect()
}

#[test]
fn each_file_says_where_it_would_go() {
    assert_eq!(without_place("p2pdma"), [""; 0]);
    assert_eq!(without_place("nvmet"), [""; 0]);
}

#[test]
fn circles_are_found() {
    let modules: BTreeMap<_, _> = [
        ("a", "use crate::{b::{self, C}, d};\n"),
        ("b", "// crate::a\nuse crate::d;\n"),
        ("d", "fn f() { crate::b::g() }\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into();
    let graph = graph("root", &modules);

    assert_eq!(graph["a"], ["b", "d"].map(str::to_owned).into());
    assert_eq!(graph["b"], ["d".to_owned()].into());
    assert_eq!(circle(&graph), Some(vec!["b".to_owned(), "d".to_owned()]));
}

#[test]
fn siblings_are_found() {
    let modules: BTreeMap<_, _> = [
        ("p", "pub use x::X;\n"),
        ("p::x", "use super::y::{Y, Z};\n"),
        ("p::y", "use super::X as T;\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into();

    assert_eq!(
        paths("p::x", &modules["p::x"]),
        ["p::y::Y", "p::y::Z"].map(str::to_owned).into()
    );
    let graph = graph("root", &modules);

    assert_eq!(graph["p::y"], ["p".to_owned()].into());
    // What a folder hands on, it uses.
    assert_eq!(graph["p"], ["p::x".to_owned()].into());
    assert!(circle(&graph).is_some());
}
