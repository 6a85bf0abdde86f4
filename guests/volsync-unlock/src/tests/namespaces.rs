use super::*;

fn cluster() -> Vec<Namespace> {
    [("ai", false), ("media", false), ("media-old", true), ("security", false)]
        .map(|(name, is_terminating)| Namespace { name: name.into(), is_terminating })
        .to_vec()
}

fn configured(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn names_and_globs_are_resolved_without_duplicates() {
    let resolved = resolve(&configured(&["media", "*i*", "ai"]), &cluster());
    assert_eq!(resolved.existing, ["media", "ai", "security"]);
}

#[test]
fn names_and_globs_that_match_nothing_are_warnings() {
    let resolved = resolve(&configured(&["ai", "medja", "x-*"]), &cluster());
    assert_eq!(resolved.existing, ["ai"]);
    assert_eq!(resolved.warnings, ["namespace medja does not exist", "no namespace matches x-*"]);
}

#[test]
fn a_namespace_that_is_being_deleted_is_skipped_with_a_warning() {
    let resolved = resolve(&configured(&["media-old"]), &cluster());
    assert!(resolved.existing.is_empty());
    assert_eq!(resolved.warnings, ["namespace media-old is being deleted: skipped"]);
}

#[test]
fn globs_match_as_in_a_shell() {
    for (glob, name, expected) in [
        ("*", "ai", true),
        ("a?", "ai", true),
        ("a?", "a", false),
        ("*-old", "media-old", true),
        ("m*a", "media", true),
        ("m*a", "median", false),
        ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ("media", "media", true),
    ] {
        assert_eq!(matches(glob, name), expected, "{glob} {name}");
    }
}
