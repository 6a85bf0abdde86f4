//! The contract: the text of `wit/` and the functions that it declares.

use crate::interfaces::each_interface;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The WIT package that this host implements.
pub const PACKAGE: &str = "salve:cluster";

/// The version of [`PACKAGE`].
pub const VERSION: &str = "0.1.0";

macro_rules! files {
    ($($capability:ident $interface:literal $module:ident;)*) => {
        &[
            ("types.wit", include_str!("../../../wit/types.wit")),
            ("report.wit", include_str!("../../../wit/report.wit")),
            ("reversals.wit", include_str!("../../../wit/reversals.wit")),
            $((
                concat!($interface, ".wit"),
                include_str!(concat!("../../../wit/", $interface, ".wit")),
            ),)*
            ("world.wit", include_str!("../../../wit/world.wit")),
        ]
    };
}

/// The files of `wit/` as name and text: the shared interfaces first, the world last.
pub const FILES: &[(&str, &str)] = each_interface! { [files] };

/// Returns the whole contract as one WIT document.
pub fn wit() -> String {
    let head = format!("package {PACKAGE}@{VERSION};\n");
    FILES
        .iter()
        .fold(head.clone(), |whole, (_, text)| whole + text.strip_prefix(&head).unwrap_or(text))
}

/// Returns the functions of each interface. Methods are named `resource.method`.
pub fn functions() -> &'static BTreeMap<String, BTreeSet<String>> {
    static FUNCTIONS: LazyLock<BTreeMap<String, BTreeSet<String>>> = LazyLock::new(|| {
        let mut resolve = wit_parser::Resolve::default();
        resolve.push_str("salve.wit", &wit()).expect("the contract is valid WIT");
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
    fn functions_include_the_methods_of_resources() {
        let names =
            |interface: &str| functions()[interface].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(names("tail-logs"), ["cursor.next", "open"]);
        assert_eq!(names("query-flux"), ["find-owners", "get"]);
        assert_eq!(names("reversals"), ["reversal.release"]);
        assert!(names("types").is_empty());
    }

    #[test]
    fn the_document_contains_every_file_and_declares_the_package_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
        let mut on_disk: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|f| f.unwrap().file_name().into_string().unwrap())
            .collect();
        let mut embedded: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        on_disk.sort();
        embedded.sort();
        assert_eq!(embedded, on_disk);

        let whole = wit();
        assert_eq!(whole.matches("package salve:cluster@0.1.0;").count(), 1);
        let mut resolve = wit_parser::Resolve::default();
        let package = resolve.push_str("salve.wit", &whole).unwrap();
        assert!(resolve.select_world(&[package], Some("remediation")).is_ok());
    }
}
