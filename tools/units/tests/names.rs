// SPDX-License-Identifier: GPL-2.0

//! Who knows a name of `include/linux/pci-p2pdma.h` finds what stands for it: as an alias in the
//! library's rustdoc, and in `Documentation/p2pdma/rust-api.rst`.

use std::{
    collections::BTreeSet,
    env,
    fs,
    path::Path, //
};

/// What only the kernel's DMA mapping calls: named in the document, and nowhere else.
const INTERNAL: [&str; 2] = ["pci_p2pdma_state", "__pci_p2pdma_update_state"];

/// The names of all functions that a header declares, or defines inline.
fn functions(header: &str) -> BTreeSet<&str> {
    header
        .match_indices('(')
        .map(|(end, _)| {
            let before = &header[..end];
            let start = before
                .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .map_or(0, |at| at + 1);

            &before[start..]
        })
        .filter(|name| name.contains("p2pdma_") || name.contains("p2pmem"))
        .collect()
}

/// What follows each `marker` in the files of a folder and those in it, up to a quotation mark.
fn aliases(dir: &Path) -> BTreeSet<String> {
    let marker = "doc(alias = \"";
    let mut found = BTreeSet::new();

    for entry in fs::read_dir(dir).expect("the library is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.append(&mut aliases(&path));
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is text");
        let names = text.split(marker).skip(1);

        found.extend(names.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    found
}

#[test]
fn functions_are_found_in_a_header() {
    let header = "int pci_p2pdma_add_resource(struct pci_dev *pdev, int bar);\n\
                  static inline void pci_free_p2pmem(void *addr)\n\
                  struct p2pdma_provider *pcim_p2pdma_provider(struct pci_dev *pdev);\n\
                  #define other(x) (x)\n";

    assert_eq!(
        functions(header).into_iter().collect::<Vec<_>>(),
        [
            "pci_free_p2pmem",
            "pci_p2pdma_add_resource",
            "pcim_p2pdma_provider"
        ]
    );
}

/// Needs the kernel's source.
#[test]
#[ignore = "needs KERNEL_SOURCE, as `make unit` sets it"]
fn every_name_of_the_header_leads_somewhere() {
    let kernel = env::var_os("KERNEL_SOURCE").expect("KERNEL_SOURCE names the kernel's source");
    let header = Path::new(&kernel).join("include/linux/pci-p2pdma.h");
    let header =
        fs::read_to_string(&header).unwrap_or_else(|error| panic!("{}: {error}", header.display()));
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let aliases = aliases(&top.join("rust/p2pdma"));
    let document = fs::read_to_string(top.join("Documentation/p2pdma/rust-api.rst"))
        .expect("the document is there");
    let names = functions(&header);
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            let alias = aliases.contains(**name) || INTERNAL.contains(*name);

            !alias || !document.contains(&format!("``{name}()``"))
        })
        .collect();

    assert!(names.len() > 10, "few names: {names:?}");
    assert!(
        missing.is_empty(),
        "no alias, or not in rust-api.rst: {missing:?}"
    );
}
