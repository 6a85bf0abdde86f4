//! How to keep it from coming back, from what is left and what was seen.

use std::collections::BTreeMap;

use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::Finding;
use salve_sdk::wording::{count, row};

use crate::selection::{Reason, ResolvedGuest, Return, Selection};

/// So many sources at the same minute are a storm.
const STORM: usize = 8;

/// What a person should change. `after` are the sources at the end.
pub fn advise(selection: &Selection, after: &[Source], ceph_slow: bool) -> Vec<Finding> {
    let mut advice: Vec<Finding> =
        selection.chosen.iter().filter_map(declared_without_claim).map(Finding::new).collect();
    let other: Vec<String> = after
        .iter()
        .filter(|source| source.health == Health::Orphan && !selection.knows(source))
        .map(|source| source.object.to_string())
        .collect();
    if !other.is_empty() {
        advice.push(Finding::with(
            format!(
                "{} without a claim remain: delete them, or bring their claims back",
                count(other.len(), "ReplicationSource")
            ),
            other,
        ));
    }
    for spared in selection.spared.iter().filter(|spared| spared.source.health == Health::Orphan) {
        advice.push(Finding::new(format!(
            "{} still backs up a claim that is gone: {}",
            spared.source.object, spared.why
        )));
    }
    advice.extend(storm(after));
    if selection.chosen.iter().any(|chosen| chosen.reason == Reason::Orphan) {
        advice.push(Finding::new("delete an app through Git, so that Flux prunes its ReplicationSource with its claim; pausing a source is not enough"));
    }
    if ceph_slow {
        advice.push(Finding::new(
            "Ceph is in HEALTH_WARN: locks are a symptom of slow operations, look there first",
        ));
    }
    advice
}

impl Selection {
    fn knows(&self, source: &Source) -> bool {
        self.chosen.iter().any(|chosen| chosen.source.object == source.object)
            || self.spared.iter().any(|spared| spared.source.object == source.object)
    }
}

fn declared_without_claim(chosen: &ResolvedGuest) -> Option<String> {
    let name = &chosen.source.object.name;
    match (chosen.reason, &chosen.back) {
        (
            Reason::Orphan | Reason::TerminatingSource,
            Return::WithOwner(owner) | Return::Forced(owner),
        ) => Some(format!(
            "remove {name} from Git ({owner} declares it), or its ReplicationSource returns without a claim"
        )),
        (Reason::Orphan | Reason::TerminatingSource, Return::AtUpgrade(owner)) => Some(format!(
            "remove {name} from the values of {owner}, or it returns at its next upgrade"
        )),
        (Reason::Orphan | Reason::TerminatingSource, Return::Suspended(owner)) => Some(format!(
            "remove {name} from Git before {owner} is resumed, or its ReplicationSource returns without a claim"
        )),
        (Reason::Orphan | Reason::TerminatingSource, Return::Never)
        | (Reason::Stuck | Reason::Literal, _) => None,
    }
}

fn storm(sources: &[Source]) -> Option<Finding> {
    let mut minutes: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for source in sources {
        if let Some(schedule) = &source.schedule {
            minutes.entry(schedule).or_default().push(source.object.to_string());
        }
    }
    let (schedule, names) = minutes.into_iter().max_by_key(|(_, names)| names.len())?;
    (names.len() >= STORM).then(|| {
        Finding::with(
            format!(
                "{} start at the same minute ({schedule}): spread their schedules",
                count(names.len(), "ReplicationSource")
            ),
            [row(&names, names.len())],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::selection::Spared;

    fn chosen(reason: Reason, back: Return) -> Selection {
        Selection {
            chosen: vec![ResolvedGuest {
                source: samples::source("media/old-lidarr", 1, Health::Orphan),
                reason,
                owner: None,
                back,
            }],
            spared: Vec::new(),
        }
    }

    fn texts(selection: &Selection, after: &[Source]) -> Vec<String> {
        advise(selection, after, false).into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_source_that_git_still_declares_is_to_be_removed_there() {
        let owner = samples::flux("media/lidarr");
        for (back, said) in [
            (
                Return::WithOwner(owner.clone()),
                "remove old-lidarr from Git (Kustomization media/lidarr declares it)",
            ),
            (Return::AtUpgrade(owner.clone()), "from the values"),
            (Return::Suspended(owner), "before Kustomization media/lidarr is resumed"),
        ] {
            assert!(texts(&chosen(Reason::Orphan, back), &[])[0].contains(said));
        }
        assert_eq!(texts(&chosen(Reason::Stuck, Return::Never), &[]), [] as [&str; 0]);
    }

    #[test]
    fn orphans_that_remain_are_counted_once() {
        let returned = samples::source("media/old-lidarr", 2, Health::Orphan);
        let stranger = samples::source("media/other", 3, Health::Orphan);
        let selection = chosen(Reason::Orphan, Return::Never);
        assert!(
            texts(&selection, &[returned, stranger])[0]
                .starts_with("1 ReplicationSource without a claim")
        );
    }

    #[test]
    fn a_spared_orphan_says_why() {
        let spared = Spared {
            source: samples::source("media/x", 1, Health::Orphan),
            why: "nobody re-creates it".into(),
        };
        let selection = Selection { chosen: Vec::new(), spared: vec![spared] };
        assert!(texts(&selection, &[])[0].contains("nobody re-creates it"));
    }

    #[test]
    fn many_sources_at_one_minute_are_a_storm() {
        let sources: Vec<Source> = (0..8)
            .map(|number| samples::source(&format!("media/s{number}"), number, Health::Healthy))
            .collect();
        assert!(texts(&Selection::default(), &sources)[0].contains("spread their schedules"));
        assert!(texts(&Selection::default(), &sources[..7]).is_empty());
    }
}
