use super::*;
use crate::samples;
use crate::selection::SkippedSource;

fn selection(reason: Reason, recreation: Recreation) -> Selection {
    Selection {
        selected: vec![SelectedSource {
            source: samples::source("media/old-lidarr", 1, Health::Orphan),
            reason,
            owner: None,
            recreation,
        }],
        skipped: Vec::new(),
    }
}

fn texts(selection: &Selection, after: &[Source]) -> Vec<String> {
    advise(selection, after, false).into_iter().map(|finding| finding.text).collect()
}

#[test]
fn a_source_that_git_still_declares_should_be_removed_from_git() {
    let owner = samples::flux("media/lidarr");
    for (recreation, expected) in [
        (
            Recreation::ByOwner(owner.clone()),
            "remove old-lidarr from Git (Kustomization media/lidarr declares it)",
        ),
        (Recreation::AtUpgrade(owner.clone()), "from the values"),
        (Recreation::OwnerSuspended(owner), "before Kustomization media/lidarr is resumed"),
        (Recreation::Unknown, "where it is declared (Flux in another cluster"),
    ] {
        assert!(texts(&selection(Reason::Orphan, recreation), &[])[0].contains(expected));
    }
    let stuck = selection(Reason::Stuck, Recreation::Never);
    assert_eq!(texts(&stuck, &[]), [] as [&str; 0]);
}

#[test]
fn remaining_orphans_are_counted_without_recreated_sources() {
    let recreated = samples::source("media/old-lidarr", 2, Health::Orphan);
    let other = samples::source("media/other", 3, Health::Orphan);
    let selection = selection(Reason::Orphan, Recreation::Never);
    assert_eq!(
        texts(&selection, &[recreated.clone(), other.clone()])[0],
        "1 ReplicationSource without a PVC remains: delete it, or restore its PVC"
    );
    let third = samples::source("media/third", 4, Health::Orphan);
    assert!(
        texts(&selection, &[recreated, other, third])[0]
            .starts_with("2 ReplicationSources without a PVC remain:")
    );
}

#[test]
fn a_skipped_orphan_is_reported_with_the_reason() {
    let skipped = SkippedSource {
        source: samples::source("media/x", 1, Health::Orphan),
        reason: "not in Git: will not come back".into(),
    };
    let selection = Selection { selected: Vec::new(), skipped: vec![skipped] };
    assert!(texts(&selection, &[])[0].contains("not in Git: will not come back"));
}

#[test]
fn many_sources_with_the_same_schedule_are_reported() {
    let sources: Vec<Source> = (0..8)
        .map(|number| samples::source(&format!("media/s{number}"), number, Health::Healthy))
        .collect();
    assert!(texts(&Selection::default(), &sources)[0].contains("spread out their schedules"));
    assert!(texts(&Selection::default(), &sources[..7]).is_empty());
}
