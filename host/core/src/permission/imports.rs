//! What a component imports, next to what its documents grant. Imports limit the functions, grants
//! limit the targets, and only what is in both can happen.

use super::needs::intersections;
use crate::capability::{Access, Capability};
use crate::glob::Glob;
use crate::grants::{Grant, Grants};
use std::collections::BTreeSet;

/// An imported capability.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub capability: Capability,
    pub functions: Vec<String>,
    /// What every document grants.
    pub grants: Vec<Grant>,
    /// The documents that do not grant it.
    pub denied_by: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// In the component's order.
    pub rows: Vec<Row>,
    /// What a document grants and the component does not import.
    pub unused: Vec<(String, Capability)>,
}

impl Row {
    /// Returns whether every call would be denied.
    pub fn is_missing(&self) -> bool {
        self.capability.access() != Access::Builtin && self.grants.is_empty()
    }
}

/// Compares imports (functions by interface) with grants.
pub fn compare<'a, 'b>(
    imported: impl IntoIterator<Item = (&'a str, &'b [String])>,
    grants: &Grants,
) -> Comparison {
    let rows: Vec<Row> = imported
        .into_iter()
        .filter_map(|(capability, functions)| {
            let capability = Capability::of_interface(capability)?;
            let without = grants
                .layers
                .iter()
                .filter(|layer| !layer.grants.iter().any(|grant| grant.capability == capability));
            let denied_by = if capability.access() == Access::Builtin {
                vec![]
            } else {
                without.map(|layer| layer.source.clone()).collect()
            };
            Some(Row {
                capability,
                functions: functions.to_vec(),
                grants: intersections(grants, capability),
                denied_by,
            })
        })
        .collect();
    let used: BTreeSet<Capability> = rows.iter().map(|row| row.capability).collect();
    let mut unused: Vec<(String, Capability)> = vec![];
    for layer in &grants.layers {
        for grant in layer.grants.iter().filter(|grant| !used.contains(&grant.capability)) {
            let entry = (layer.source.clone(), grant.capability);
            if !unused.contains(&entry) {
                unused.push(entry);
            }
        }
    }
    Comparison { rows, unused }
}

/// Describes a grant: `kustomizations.kustomize.toolkit.fluxcd.io in flux-system, media; at most 40
/// suspensions per run`.
pub fn describe(grant: &Grant) -> String {
    let listed = |globs: &[Glob]| globs.iter().map(Glob::as_str).collect::<Vec<_>>().join(", ");
    let place = match grant.namespaces.as_slice() {
        [] => None,
        namespaces if namespaces.iter().any(Glob::is_every) => Some("every namespace".to_owned()),
        namespaces => Some(listed(namespaces)),
    };
    let mut parts = vec![match (&grant.kinds, place) {
        (Some(kinds), Some(place)) => format!("{} in {place}", listed(kinds)),
        (Some(kinds), None) => format!("{} (cluster-scoped)", listed(kinds)),
        (None, place) => place.unwrap_or_else(|| "cluster-scoped objects".to_owned()),
    }];
    parts.extend(grant.fields.as_ref().map(|fields| format!("only fields {}", fields.join(", "))));
    if !grant.names.iter().any(Glob::is_every) {
        parts.push(format!("only names {}", listed(&grant.names)));
    }
    parts.extend(
        grant.label_selector.as_ref().map(|selector| format!("only with the labels {selector}")),
    );
    parts.extend(grant.movers.as_ref().map(|movers| format!("only movers {}", movers.join(", "))));
    parts.extend(grant.max.describe());
    parts.extend(grant.evidence.as_ref().map(|evidence| format!("after evidence: {evidence}")));
    parts.extend(grant.approval.map(|_| "requires manual approval".to_owned()));
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::{Approval, Evidence, Layer, LogLines, Max, Selector};

    fn globs(list: &[&str]) -> Vec<Glob> {
        list.iter().map(|glob| Glob::new(glob).unwrap()).collect()
    }

    fn max(deletions: u32) -> Max {
        let mut max = Max::default();
        max.set("deletions", deletions);
        max
    }

    #[test]
    fn missing_unused_and_narrowed_capabilities_are_distinguished() {
        let pods =
            Grant { namespaces: globs(&["media", "ai"]), ..Grant::whole(Capability::QueryPods) };
        let logs = Grant::whole(Capability::TailLogs);
        let theirs = Layer {
            source: "remediation".into(),
            grants: vec![pods, logs.clone(), Grant::whole(Capability::QueryPvcs)],
        };
        let narrow = Grant { namespaces: globs(&["media"]), ..Grant::whole(Capability::QueryPods) };
        let ours = Layer {
            source: "policy".into(),
            grants: vec![narrow, Grant::whole(Capability::QueryDrivers)],
        };
        let grants = Grants { layers: vec![theirs, ours] };
        let functions = [
            vec!["list-pods".to_owned()],
            vec!["open".to_owned(), "cursor.next".to_owned()],
            vec!["now".to_owned()],
        ];
        let imported = [
            ("query-pods", functions[0].as_slice()),
            ("tail-logs", &functions[1]),
            ("run", &functions[2]),
        ];
        let Comparison { rows, unused } = compare(imported, &grants);
        assert_eq!(
            rows.iter().map(|row| (row.capability.name(), row.is_missing())).collect::<Vec<_>>(),
            [("query-pods", false), ("tail-logs", true), ("run", false)]
        );
        assert_eq!(rows[0].grants.iter().map(describe).collect::<Vec<_>>(), ["media"]);
        assert_eq!(rows[1].denied_by, ["policy"]);
        assert!(rows[2].denied_by.is_empty());
        let unused: Vec<_> =
            unused.iter().map(|(source, capability)| format!("{source} {capability}")).collect();
        assert_eq!(unused, ["remediation query-pvcs", "policy query-drivers"]);
    }

    #[test]
    fn the_conditions_of_both_documents_apply() {
        let one = Grant {
            namespaces: globs(&["*"]),
            label_selector: Some(Selector::parse("app=plex").unwrap()),
            movers: Some(vec!["restic".into(), "rclone".into()]),
            max: max(10),
            evidence: Some(Evidence { pending_pvcs: Some(1), log_lines: vec![] }),
            ..Grant::whole(Capability::DeleteReplicationsources)
        };
        let other = Grant {
            namespaces: globs(&["media"]),
            label_selector: Some(Selector::parse("!keep").unwrap()),
            movers: Some(vec!["restic".into()]),
            max: max(3),
            approval: Some(Approval::Required),
            evidence: Some(Evidence {
                pending_pvcs: None,
                log_lines: vec![LogLines { pattern: Glob::new("*locked*").unwrap(), min: 2 }],
            }),
            ..Grant::whole(Capability::DeleteReplicationsources)
        };
        let layer = |grant: &Grant| Layer { source: "x".into(), grants: vec![grant.clone()] };
        for layers in [vec![layer(&one), layer(&other)], vec![layer(&other), layer(&one)]] {
            let both = intersections(&Grants { layers }, Capability::DeleteReplicationsources);
            let described = describe(&both[0]);
            for part in [
                "media; ",
                "app=plex",
                "!keep",
                "movers restic; ",
                "at most 3 deletions",
                "pendingPvcs ≥ 1",
                "log lines matching",
                "requires manual approval",
            ] {
                assert!(described.contains(part), "{part}: {described}");
            }
        }
    }
}
