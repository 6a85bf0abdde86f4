use super::*;

#[test]
fn a_duration_is_formatted_with_its_two_largest_units() {
    for (seconds, expected) in [
        (0, "0 s"),
        (8, "8 s"),
        (60, "1 min"),
        (278, "4 min 38 s"),
        (11_520, "3 h 12 min"),
        (90_000, "25 h"),
        (41 * 86_400 + 7_000, "41 days"),
    ] {
        assert_eq!(duration(seconds * 1_000), expected);
    }
}

#[test]
fn a_time_in_the_future_has_age_zero() {
    assert_eq!(age(2_000, 1_000), "0 s");
}

#[test]
fn only_namespace_slash_name_is_a_reference() {
    assert_eq!(ObjectRef::parse("a/b"), Some(ObjectRef::new("a", "b")));
    for wrong in ["", "a", "a/", "/b", "a/b/c"] {
        assert_eq!(ObjectRef::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn joining_more_names_than_the_maximum_counts_the_rest() {
    assert_eq!(join(["a", "b"], 2), "a, b");
    assert_eq!(join(["a", "b", "c", "d"], 2), "a, b and 2 more");
}

#[test]
fn a_count_agrees_with_its_noun() {
    assert_eq!(count(1, "PVC"), "1 PVC");
    assert_eq!(count(0, "PVC"), "0 PVCs");
    assert_eq!(count(2, "lock key"), "2 lock keys");
    assert_eq!(count(2, "GitRepository"), "2 GitRepositories");
}
