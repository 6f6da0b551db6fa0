// SPDX-License-Identifier: GPL-2.0

//! `rust-project.json`, which tells rust-analyzer about the kernel modules.
//!
//! The kernel writes one with its own crates, but finds no crate that another module provides. The
//! project's crates are added to it, as they were compiled.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{anyhow, bail, Result};
use serde_json::{json, Value};

use crate::kbuild::Crate;

/// Crates that every kernel module sees without asking for them.
const ALWAYS: [&str; 1] = ["core"];

/// Adds `crates`, and makes paths into the root of the testbed valid outside of it.
pub fn complete(mut project: Value, crates: &[Crate], root: &str) -> Result<Value> {
    let known = project
        .get_mut("crates")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| anyhow!("the kernel's rust-project.json has no list of crates"))?;
    let own: BTreeSet<&str> = crates.iter().map(|one| one.name.as_str()).collect();
    if known.iter().any(|one| own.contains(name_of(one))) {
        bail!("the kernel's rust-project.json has the crates already");
    }
    let cfg = known
        .iter()
        .find(|one| name_of(one) == "kernel")
        .map_or(json!([]), |kernel| kernel["cfg"].clone());
    for one in crates {
        let deps = ALWAYS
            .into_iter()
            .chain(one.externs())
            .map(|name| {
                let index = known.iter().position(|other| name_of(other) == name);
                index
                    .map(|index| json!({ "crate": index, "name": name }))
                    .ok_or_else(|| anyhow!("crate {} uses {name}, which is nowhere", one.name))
            })
            .collect::<Result<Vec<Value>>>()?;
        let mut all_cfg = cfg.as_array().cloned().unwrap_or_default();
        all_cfg.push(json!("MODULE"));
        known.push(json!({
            "display_name": one.name,
            "root_module": one.source,
            "is_workspace_member": true,
            "edition": one.option("--edition").unwrap_or("2021"),
            "deps": deps,
            "cfg": all_cfg,
            "env": one.env,
            "source": { "include_dirs": include_dirs(one), "exclude_dirs": [] },
        }));
    }
    relocate(&mut project, root);
    Ok(project)
}

fn name_of(one: &Value) -> &str {
    one["display_name"].as_str().unwrap_or_default()
}

/// Where a crate's files are.
fn include_dirs(one: &Crate) -> BTreeSet<&Path> {
    let files = one.files.iter().chain([&one.source]);
    files.filter_map(|file| file.parent()).collect()
}

/// Puts the root before all paths that only it has.
fn relocate(value: &mut Value, root: &str) {
    match value {
        Value::String(text) if text == "/usr" || text.starts_with("/usr/") => {
            text.insert_str(0, root);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| relocate(value, root)),
        Value::Object(fields) => fields.values_mut().for_each(|value| relocate(value, root)),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel() -> Value {
        json!({
            "sysroot": "/usr",
            "crates": [
                { "display_name": "core", "root_module": "/usr/lib/core.rs", "cfg": [] },
                { "display_name": "kernel", "root_module": "/k/lib.rs", "cfg": ["CONFIG_X"] },
            ],
        })
    }

    fn own(name: &str, externs: &[&str]) -> Crate {
        let externs = externs
            .iter()
            .flat_map(|name| ["--extern".to_owned(), (*name).to_owned()]);
        Crate {
            name: name.into(),
            source: format!("/p/{name}.rs").into(),
            files: vec!["/b/bindings.rs".into()],
            env: [("OBJTREE".to_owned(), "/o".to_owned())].into(),
            args: externs.collect(),
        }
    }

    #[test]
    fn crates_are_added_with_what_they_use() {
        let crates = [
            own("p2pdma", &["kernel"]),
            own("provider", &["p2pdma", "kernel"]),
        ];
        let project = complete(kernel(), &crates, "/root").expect("complete");
        let provider = &project["crates"][3];
        assert_eq!(provider["display_name"], "provider");
        assert_eq!(provider["deps"][1], json!({ "crate": 2, "name": "p2pdma" }));
        assert_eq!(provider["cfg"], json!(["CONFIG_X", "MODULE"]));
        assert_eq!(provider["env"]["OBJTREE"], "/o");
        assert_eq!(provider["source"]["include_dirs"], json!(["/b", "/p"]));
    }

    #[test]
    fn paths_of_the_root_are_made_valid_outside() {
        let project = complete(kernel(), &[], "/cache/root").expect("complete");
        assert_eq!(project["sysroot"], "/cache/root/usr");
        assert_eq!(
            project["crates"][0]["root_module"],
            "/cache/root/usr/lib/core.rs"
        );
        assert_eq!(project["crates"][1]["root_module"], "/k/lib.rs");
    }

    #[test]
    fn crate_that_is_nowhere_is_named() {
        let crates = [own("provider", &["nosuch"])];
        let error = complete(kernel(), &crates, "")
            .expect_err("missing")
            .to_string();
        assert!(error.contains("provider uses nosuch"), "{error}");
    }

    #[test]
    fn project_that_has_the_crates_is_not_completed_twice() {
        let once = complete(kernel(), &[own("p2pdma", &[])], "").expect("complete");
        assert!(complete(once, &[own("p2pdma", &[])], "").is_err());
    }
}
