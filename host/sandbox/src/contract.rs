//! The contract's text, for `salve wit` and for who compares versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The package that this host speaks.
pub const PACKAGE: &str = "salve:cluster";

/// Its version.
pub const VERSION: &str = "0.1.0";

/// The files of `wit/`: name and text, the shared words first and the world last.
pub const FILES: &[(&str, &str)] = &[
    ("types.wit", include_str!("../../../wit/types.wit")),
    ("report.wit", include_str!("../../../wit/report.wit")),
    ("run.wit", include_str!("../../../wit/run.wit")),
    ("query-flux.wit", include_str!("../../../wit/query-flux.wit")),
    ("query-replicationsources.wit", include_str!("../../../wit/query-replicationsources.wit")),
    ("query-pvcs.wit", include_str!("../../../wit/query-pvcs.wit")),
    ("query-drivers.wit", include_str!("../../../wit/query-drivers.wit")),
    ("query-pods.wit", include_str!("../../../wit/query-pods.wit")),
    ("query-objects.wit", include_str!("../../../wit/query-objects.wit")),
    ("tail-logs.wit", include_str!("../../../wit/tail-logs.wit")),
    ("suspend-flux.wit", include_str!("../../../wit/suspend-flux.wit")),
    ("reconcile-flux.wit", include_str!("../../../wit/reconcile-flux.wit")),
    ("delete-replicationsources.wit", include_str!("../../../wit/delete-replicationsources.wit")),
    ("restart-deployment.wit", include_str!("../../../wit/restart-deployment.wit")),
    ("world.wit", include_str!("../../../wit/world.wit")),
];

/// The whole contract as one WIT document.
pub fn wit() -> String {
    let head = format!("package {PACKAGE}@{VERSION};\n");
    FILES
        .iter()
        .fold(head.clone(), |whole, (_, text)| whole + text.strip_prefix(&head).unwrap_or(text))
}

/// The functions of each interface, methods as `resource.method`.
pub fn functions() -> &'static BTreeMap<String, BTreeSet<String>> {
    static FUNCTIONS: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
        let mut resolve = wit_parser::Resolve::default();
        resolve.push_str("salve.wit", &wit()).expect("the contract is WIT: its tests parse it");
        let interfaces = resolve
            .interfaces
            .iter()
            .filter_map(|(_, interface)| Some((interface.name.clone()?, interface)));
        let plain =
            |name: &String| name.split_once(']').map_or(name.as_str(), |(_, rest)| rest).to_owned();
        interfaces
            .map(|(name, interface)| (name, interface.functions.keys().map(plain).collect()))
            .collect()
    });
    &FUNCTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_its_functions_and_the_methods_of_its_resources() {
        let of =
            |interface: &str| functions()[interface].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(of("tail-logs"), ["cursor.next", "open"]);
        assert_eq!(of("query-flux"), ["get", "owners"]);
        assert!(of("types").is_empty());
    }

    #[test]
    fn the_one_document_is_the_folder_and_says_the_package_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let mut there: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut here: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        there.sort();
        here.sort();
        assert_eq!(here, there);

        let whole = wit();
        assert_eq!(whole.matches("package salve:cluster@0.1.0;").count(), 1);
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_str("salve.wit", &whole).unwrap();
        assert!(resolve.select_world(&[package], Some("remediation")).is_ok());
    }
}
