//! The contract's text, for `salve wit` and for who compares versions.

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
    FILES.iter().fold(head.clone(), |whole, (_, text)| whole + text.strip_prefix(&head).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_document_is_the_folder_and_says_the_package_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let mut there: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
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
