//! What a component imports, beside what its documents grant: imports bound the verbs, grants bound the targets, and only what stands in
//! both can happen.

use super::needs::intersections;
use crate::effect::{Access, access_of};
use crate::glob::Glob;
use crate::grants::{Grant, Grants};
use std::collections::BTreeSet;

/// One capability that is imported.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The interface.
    pub capability: String,
    /// How far it reaches.
    pub access_of: Access,
    /// The functions that are imported of it.
    pub functions: Vec<String>,
    /// Where it holds: what every document grants.
    pub grants: Vec<Grant>,
    /// The documents that grant nothing of it.
    pub denied_by: Vec<String>,
}

/// Imports and grants side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Each capability that is imported, in the component's order.
    pub rows: Vec<Row>,
    /// What a document grants and the component does not import: document and capability.
    pub unused: Vec<(String, String)>,
}

impl Row {
    /// Whether each of its calls would be denied.
    pub fn is_missing(&self) -> bool {
        self.access_of != Access::Builtin && self.grants.is_empty()
    }
}

/// Lays what is imported, functions by capability, over the grants.
pub fn compare<'a, 'b>(
    imported: impl IntoIterator<Item = (&'a str, &'b [String])>,
    grants: &Grants,
) -> Comparison {
    let rows: Vec<Row> = imported
        .into_iter()
        .filter_map(|(capability, functions)| {
            let access_of = access_of(capability)?;
            let without = grants
                .layers
                .iter()
                .filter(|layer| !layer.grants.iter().any(|grant| grant.capability == capability));
            let denied_by = if access_of == Access::Builtin {
                vec![]
            } else {
                without.map(|layer| layer.source.clone()).collect()
            };
            Some(Row {
                capability: capability.into(),
                access_of,
                functions: functions.to_vec(),
                grants: intersections(grants, capability),
                denied_by,
            })
        })
        .collect();
    let used: BTreeSet<&str> = rows.iter().map(|row| row.capability.as_str()).collect();
    let mut unused: Vec<(String, String)> = vec![];
    for layer in &grants.layers {
        for grant in layer.grants.iter().filter(|grant| !used.contains(grant.capability.as_str())) {
            let entry = (layer.source.clone(), grant.capability.clone());
            if !unused.contains(&entry) {
                unused.push(entry);
            }
        }
    }
    Comparison { rows, unused }
}

/// A grant in words: `kustomization, bucket in flux-system, media; at most 40 suspensions in a run`.
pub fn words(grant: &Grant) -> String {
    let listed = |globs: &[Glob]| globs.iter().map(Glob::as_str).collect::<Vec<_>>().join(", ");
    let place = match grant.namespaces.as_slice() {
        [] => "objects without a namespace".to_owned(),
        namespaces if namespaces.iter().any(Glob::is_every) => "every namespace".to_owned(),
        namespaces => listed(namespaces),
    };
    let mut said = vec![match &grant.kinds {
        Some(kinds) => format!("{} in {place}", listed(kinds)),
        None => place,
    }];
    if !grant.names.iter().any(Glob::is_every) {
        said.push(format!("only those called {}", listed(&grant.names)));
    }
    said.extend(
        grant.label_selector.as_ref().map(|selector| format!("only with the labels {selector}")),
    );
    said.extend(
        grant.movers.as_ref().map(|movers| format!("only of the movers {}", movers.join(", "))),
    );
    said.extend(grant.max.words());
    said.extend(grant.evidence.as_ref().map(|evidence| format!("after evidence: {evidence}")));
    said.extend(grant.approval.map(|_| "after a person's yes".to_owned()));
    said.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::{Approval, Evidence, Layer, LogLines, Max, Selector};

    fn globs(list: &[&str]) -> Vec<Glob> {
        list.iter().map(|glob| Glob::new(glob).unwrap()).collect()
    }

    #[test]
    fn what_is_missing_unused_and_narrowed_is_told_apart() {
        let pods = Grant { namespaces: globs(&["media", "ai"]), ..Grant::whole("query-pods") };
        let logs = Grant::whole("tail-logs");
        let theirs = Layer {
            source: "remediation".into(),
            grants: vec![pods, logs.clone(), Grant::whole("query-pvcs")],
        };
        let narrow = Grant { namespaces: globs(&["media"]), ..Grant::whole("query-pods") };
        let ours =
            Layer { source: "policy".into(), grants: vec![narrow, Grant::whole("query-drivers")] };
        let grants = Grants { layers: vec![theirs, ours] };
        let functions = [
            vec!["pods".to_owned()],
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
            rows.iter().map(|row| (row.capability.as_str(), row.is_missing())).collect::<Vec<_>>(),
            [("query-pods", false), ("tail-logs", true), ("run", false)]
        );
        assert_eq!(rows[0].grants.iter().map(words).collect::<Vec<_>>(), ["media"]);
        assert_eq!(rows[1].denied_by, ["policy"]);
        assert!(rows[2].denied_by.is_empty());
        let unused: Vec<_> =
            unused.iter().map(|(source, capability)| format!("{source} {capability}")).collect();
        assert_eq!(unused, ["remediation query-pvcs", "policy query-drivers"]);
    }

    #[test]
    fn of_two_documents_all_conditions_hold() {
        let one = Grant {
            namespaces: globs(&["*"]),
            label_selector: Some(Selector::read("app=plex").unwrap()),
            movers: Some(vec!["restic".into(), "rclone".into()]),
            max: Max { deletions: Some(10), ..Max::default() },
            evidence: Some(Evidence { pending_claims: Some(1), log_lines: vec![] }),
            ..Grant::whole("delete-replicationsources")
        };
        let other = Grant {
            namespaces: globs(&["media"]),
            label_selector: Some(Selector::read("!keep").unwrap()),
            movers: Some(vec!["restic".into()]),
            max: Max { deletions: Some(3), ..Max::default() },
            approval: Some(Approval::Required),
            evidence: Some(Evidence {
                pending_claims: None,
                log_lines: vec![LogLines { like: Glob::new("*locked*").unwrap(), least: 2 }],
            }),
            ..Grant::whole("delete-replicationsources")
        };
        let layer = |grant: &Grant| Layer { source: "x".into(), grants: vec![grant.clone()] };
        for layers in [vec![layer(&one), layer(&other)], vec![layer(&other), layer(&one)]] {
            let both = intersections(&Grants { layers }, "delete-replicationsources");
            let said = words(&both[0]);
            for part in [
                "media; ",
                "app=plex",
                "!keep",
                "movers restic; ",
                "at most 3 deletions",
                "1 claims that wait",
                "2 log lines like",
                "a person's yes",
            ] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
    }
}
