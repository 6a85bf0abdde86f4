use super::*;
use crate::capability::types::{FluxKind, FluxRef, ObjectRef};
use crate::capability::{
    TypedCall, delete_replicationsources as del, override_fields, query_objects, query_pvcs,
    suspend_flux, tail_logs,
};
use proptest::prelude::*;
use serde_json::json;

fn grant(capability: Capability, namespaces: &[&str], names: &[&str]) -> Grant {
    let globs = |list: &[&str]| list.iter().map(|g| Glob::new(g).unwrap()).collect::<Vec<_>>();
    Grant { namespaces: globs(namespaces), names: globs(names), ..Grant::whole(capability) }
}

fn layers(layers: &[&[Grant]]) -> Grants {
    Grants {
        layers: layers
            .iter()
            .map(|g| Layer { source: "policy.yaml".into(), grants: g.to_vec() })
            .collect(),
    }
}

fn delete(objects: &[(&str, &str)]) -> Effect {
    let set = objects
        .iter()
        .map(|(ns, n)| del::DeletionTarget {
            object: ObjectRef::new(*ns, *n),
            uid: "u".into(),
            digest: "d".into(),
            reason: String::new(),
        })
        .collect();
    del::Delete { set, pacing: del::Pacing { batch_size: 1, interval_ms: 0 } }.effect()
}

fn may(grants: &Grants, effect: &Effect) -> bool {
    grants.decide(effect, &Tally::default()).is_ok()
}

#[test]
fn nothing_is_allowed_without_a_grant() {
    assert!(!may(&Grants::default(), &delete(&[("media", "a")])));
    assert!(!may(&layers(&[&[]]), &delete(&[("media", "a")])));
    assert!(!may(
        &layers(&[&[grant(Capability::QueryPvcs, &["media"], &["*"])]]),
        &delete(&[("media", "a")])
    ));
}

#[test]
fn every_object_of_a_set_must_be_granted() {
    let grants = layers(&[&[grant(Capability::DeleteReplicationsources, &["media"], &["son*"])]]);
    assert!(may(&grants, &delete(&[("media", "sonarr")])));
    assert!(!may(&grants, &delete(&[("media", "sonarr"), ("media", "plex")])));
    assert!(!may(&grants, &delete(&[("media", "sonarr"), ("ai", "sonarr")])));
}

#[test]
fn listing_a_namespace_requires_a_grant_for_every_name() {
    let pvcs = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
    assert!(may(&layers(&[&[grant(Capability::QueryPvcs, &["media"], &["*"])]]), &pvcs));
    assert!(!may(&layers(&[&[grant(Capability::QueryPvcs, &["media"], &["plex"])]]), &pvcs));
}

#[test]
fn every_layer_must_allow_a_call() {
    let wide = grant(Capability::DeleteReplicationsources, &["*"], &["*"]);
    let narrow = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    let grants = layers(&[&[wide], &[narrow]]);
    assert!(may(&grants, &delete(&[("media", "a")])));
    assert!(!may(&grants, &delete(&[("ai", "a")])));
}

#[test]
fn a_field_needs_a_grant_of_every_layer_that_names_it() {
    let set = |field: &str| {
        let kind = Kind { group: "apps".into(), resource: "deployments".into() };
        let (object, field) = (ObjectRef::new("media", "web"), field.into());
        override_fields::Override { kind, object, field, value: 0, reason: String::new() }.effect()
    };
    let with_fields = |fields: &[&str]| Grant {
        kinds: Some(vec![Glob::new("deployments.apps").unwrap()]),
        fields: Some(fields.iter().map(ToString::to_string).collect()),
        ..grant(Capability::OverrideFields, &["media"], &["*"])
    };
    let wide = with_fields(&["spec.replicas", "spec.minReadySeconds"]);
    assert_eq!(wide.validate(), Ok(()));
    let grants = layers(&[&[wide], &[with_fields(&["spec.replicas"])]]);
    assert!(may(&grants, &set("spec.replicas")));
    let denial = grants.decide(&set("spec.minReadySeconds"), &Tally::default()).unwrap_err();
    assert!(
        denial.what.contains("is not granted for the field spec.minReadySeconds")
            && denial.remedy.contains("`fields: [spec.minReadySeconds]`"),
        "{denial}"
    );
    for (fields, expected) in [
        (None, "`fields` is missing"),
        (Some("status.replicas"), "is not a field below `spec`"),
        (Some("spec"), "is not a field below `spec`"),
        (Some("spec.*"), "is not a field below `spec`"),
    ] {
        let fields = fields.map(|field: &str| vec![field.to_owned()]);
        let error = Grant { fields, ..with_fields(&[]) }.validate().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let pattern = Grant {
        kinds: Some(vec![Glob::new("*.apps").unwrap()]),
        ..with_fields(&["spec.replicas"])
    };
    assert!(pattern.validate().unwrap_err().contains("needs names, not patterns"));
    let other = Grant { fields: Some(vec![]), ..grant(Capability::QueryPvcs, &["*"], &["*"]) };
    assert!(other.validate().unwrap_err().contains("does not apply"));
}

#[test]
fn attempts_count_towards_a_maximum_that_the_denial_names() {
    let mut two = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    two.max.set("deletions", 2);
    let grants = layers(&[&[two]]);
    let mut tally = Tally::default();
    let permit = grants.decide(&delete(&[("media", "a")]), &tally).unwrap();
    tally.reserve(&permit);
    assert!(grants.decide(&delete(&[("media", "b"), ("media", "c")]), &tally).is_err());
    let permit = grants.decide(&delete(&[("media", "b")]), &tally).unwrap();
    tally.reserve(&permit);
    let denial = grants.decide(&delete(&[("media", "c")]), &tally).unwrap_err();
    assert!(
        denial.what.contains("limit reached: policy.yaml allows at most 2 deletions per run")
            && denial.remedy.contains("`max: {deletions: 3}`"),
        "{denial}"
    );
}

#[test]
fn a_second_decision_does_not_count_the_calls_own_reservation() {
    let mut two = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    two.max.set("deletions", 2);
    let grants = layers(&[&[two]]);
    let effect = delete(&[("media", "a"), ("media", "b")]);
    let objects = [read("media", "a", json!({}), "restic")];
    let mut tally = Tally::default();
    let mut own = tally.reserve(&grants.decide(&effect, &tally).unwrap());
    assert!(grants.decide_with_objects(&effect, &objects, &tally, None).is_err());
    let permit = grants.decide_with_objects(&effect, &objects, &tally, Some(&own)).unwrap();
    tally.amend(&mut own, &permit);
    assert!(grants.decide(&delete(&[("media", "c")]), &tally).is_err(), "it still counts");
    // The call turns out to need only one of the two.
    tally.amend(&mut own, &grants.decide(&delete(&[("media", "a")]), &Tally::default()).unwrap());
    assert!(grants.decide(&delete(&[("media", "c")]), &tally).is_ok());
    assert!(grants.decide(&delete(&[("media", "c"), ("media", "d")]), &tally).is_err());
}

#[test]
fn a_denial_names_the_line_that_would_allow_the_call() {
    let target =
        FluxRef { kind: FluxKind::Kustomization, namespace: "media".into(), name: "plex".into() };
    let effect =
        suspend_flux::Suspend { targets: vec![target], reason: "x".into(), drain_seconds: 1 }
            .effect();
    let denial = layers(&[&[]]).decide(&effect, &Tally::default()).unwrap_err();
    assert_eq!(
        denial.remedy,
        "would allow it with `- {capability: suspend-flux, \
         kinds: [kustomizations.kustomize.toolkit.fluxcd.io], namespaces: [media], \
         names: [plex]}` under spec.grants"
    );
}

#[test]
fn cluster_scoped_objects_are_granted_by_a_grant_without_namespaces() {
    let list = |namespace: Option<&str>, resource: &str| {
        let kind = Kind { group: String::new(), resource: resource.into() };
        query_objects::ListObjects {
            kind,
            namespace: namespace.map(Into::into),
            label_selector: None,
            limit: 1,
            next: None,
        }
        .effect()
    };
    let mut rule = grant(Capability::QueryObjects, &[], &["*"]);
    assert!(!may(&layers(&[&[rule.clone()]]), &list(None, "namespaces")), "no kinds named");
    rule.kinds = Some(vec![Glob::new("namespaces").unwrap()]);
    let grants = layers(&[&[rule]]);
    assert!(may(&grants, &list(None, "namespaces")));
    assert!(!may(&grants, &list(Some("media"), "namespaces")));
    assert!(!may(&grants, &list(None, "nodes")));
}

#[test]
fn a_second_layer_narrows_the_granted_namespaces() {
    let grants = layers(&[
        &[grant(Capability::QueryFlux, &["*"], &["*"])],
        &[grant(Capability::QueryFlux, &["flux-system"], &["*"])],
    ]);
    let granted_namespaces = grants.granted_namespaces(Capability::QueryFlux);
    assert!(
        granted_namespaces.iter().any(|g| g.matches("flux-system"))
            && !granted_namespaces.iter().any(|g| g.matches("media"))
    );
}

/// A ReplicationSource as it is read before its deletion.
fn read(namespace: &str, name: &str, labels: Value, mover: &str) -> Value {
    json!({
        "kind": "ReplicationSource",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {
            "sourcePVC": name,
            "trigger": {"schedule": "@daily"},
            mover: {"repository": "r"},
        },
    })
}

#[test]
fn an_object_must_match_the_labels_and_movers_of_a_grant_of_each_layer() {
    let mut plex = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    plex.label_selector = Some(Selector::parse("app=plex,!keep").unwrap());
    let mut restic = grant(Capability::DeleteReplicationsources, &["*"], &["*"]);
    restic.movers = Some(vec!["restic".into(), "rsync-tls".into()]);
    let effect = delete(&[("media", "a")]);
    let matches_object = |grants: &Grants, labels: Value, mover: &str| {
        let objects =
            [read("media", "z", json!({}), "external"), read("media", "a", labels, mover)];
        grants.decide_with_objects(&effect, &objects, &Tally::default(), None)
    };
    let both = layers(&[&[plex.clone()], &[restic.clone()]]);
    assert!(matches_object(&both, json!({"app": "plex"}), "restic").is_ok());
    assert!(matches_object(&both, json!({"app": "plex"}), "rsyncTLS").is_ok());
    for (labels, mover, why) in [
        (json!({"app": "plex"}), "syncthing", "its mover is not one of restic, rsync-tls"),
        (json!({"app": "plex"}), "rsync", "its mover is not one of"),
        (json!({"app": "plex", "keep": ""}), "restic", "app=plex,!keep"),
        (json!(null), "restic", "app=plex,!keep"),
    ] {
        let denial = matches_object(&both, labels, mover).unwrap_err();
        assert!(denial.what.contains(why) && denial.what.contains("media/a"), "{denial}");
    }
    // A grant without conditions matches every object.
    let either =
        layers(&[&[plex, grant(Capability::DeleteReplicationsources, &["media"], &["*"])]]);
    assert!(matches_object(&either, json!({}), "external").is_ok());
    // Both movers of an object must be granted.
    let two = json!({
        "kind": "ReplicationSource",
        "metadata": {"namespace": "media", "name": "a"},
        "spec": {"restic": {}, "syncthing": {}},
    });
    assert!(
        layers(&[&[restic]]).decide_with_objects(&effect, &[two], &Tally::default(), None).is_err()
    );
}

#[test]
fn another_object_read_in_place_of_the_target_is_denied() {
    let grants = layers(&[&[grant(Capability::DeleteReplicationsources, &["media"], &["*"])]]);
    let (effect, other) = (delete(&[("media", "a")]), read("media", "b", json!({}), "restic"));
    assert!(
        grants
            .decide_with_objects(&effect, &[other], &Tally::default(), None)
            .unwrap_err()
            .what
            .contains("another object was read in its place")
    );
}

/// Two grants that each apply in part do not add up to one that applies.
#[test]
fn a_single_grant_must_apply_in_all_respects() {
    let mut labelled = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    labelled.label_selector = Some(Selector::parse("app=plex").unwrap());
    let effect = delete(&[("media", "a")]);
    let (plex, bare) = (
        [read("media", "a", json!({"app": "plex"}), "restic")],
        [read("media", "a", json!({}), "restic")],
    );
    let any = || grant(Capability::DeleteReplicationsources, &["media"], &["*"]);

    let approval =
        layers(&[&[labelled.clone(), Grant { approval: Some(Approval::Required), ..any() }]]);
    let decided = |objects: &[Value]| {
        approval.decide_with_objects(&effect, objects, &Tally::default(), None).unwrap()
    };
    assert_eq!(
        (decided(&plex).approval, decided(&bare).approval.is_some()),
        (None, true),
        "only the grant without labels requires approval"
    );

    let evidence = Evidence { pending_pvcs: Some(1), log_lines: vec![] };
    let proven = layers(&[&[labelled.clone(), Grant { evidence: Some(evidence), ..any() }]]);
    assert!(proven.decide_with_objects(&effect, &plex, &Tally::default(), None).is_ok());
    assert!(
        proven.decide_with_objects(&effect, &bare, &Tally::default(), None).is_err(),
        "only the grant without labels requires evidence"
    );

    let mut limited = any();
    limited.max.set("deletions", 1);
    let once = layers(&[&[labelled, limited]]);
    let mut tally = Tally::default();
    tally.reserve(&once.decide_with_objects(&effect, &bare, &tally, None).unwrap());
    assert!(
        once.decide_with_objects(&effect, &bare, &tally, None).is_err(),
        "its own maximum is charged"
    );
    assert!(once.decide_with_objects(&effect, &plex, &tally, None).is_ok());
    // The same for a call that was made before a crash.
    let mut tally = Tally::default();
    once.count(&effect, &bare, &mut tally);
    assert!(once.decide_with_objects(&effect, &bare, &tally, None).is_err());
}

#[test]
fn evidence_is_what_the_reads_of_this_run_found() {
    let mut careful = grant(Capability::DeleteReplicationsources, &["*"], &["*"]);
    careful.evidence = Some(Evidence {
        pending_pvcs: None,
        log_lines: vec![LogLines { pattern: Glob::new("*locked*").unwrap(), min: 2 }],
    });
    let grants = layers(&[&[careful]]);
    let page = |lines: &[&str]| {
        let line =
            |text: &&str| tail_logs::Line { pod: "p".into(), time: 1, text: (*text).to_owned() };
        tail_logs::NextPage::wrap(tail_logs::Page {
            lines: lines.iter().map(line).collect(),
            pods: vec!["p".into()],
            unreadable: vec![],
            skipped: vec![],
            lines_read: 9,
            more: false,
            newest: None,
            position: vec![],
        })
    };
    let query = tail_logs::Query {
        workload: tail_logs::Workload::deployment(ObjectRef::new("rook-ceph", "d")),
        container: "c".into(),
        since: None,
        tail_lines: None,
        limit_bytes: 1,
        pattern: Some("locked".into()),
    };
    let tail = Read::NextPage(tail_logs::NextPage { query, after: vec![] });
    let mut tally = Tally::default();
    for (lines, is_enough) in [
        (&[][..], false),
        (&["locked 1"], false),
        (&["locked 1", "all is well"], false),
        (&["locked 1", "is locked 2"], true),
    ] {
        tally.record_evidence(&tail, &page(lines));
        let decided = grants.decide(&delete(&[("media", "a")]), &tally);
        assert_eq!(decided.is_ok(), is_enough, "{lines:?}: {decided:?}");
        if let Err(denial) = decided {
            let missing = "requires evidence before this call: log lines matching \
                \"*locked*\" ≥ 2, recorded so far: ";
            assert!(denial.what.contains(missing), "{denial}");
        }
    }
    // Recreating deleted objects requires no evidence.
    let mut deleted = read("media", "a", json!({}), "restic");
    deleted["apiVersion"] = json!("volsync.backube/v1alpha1");
    let recreate = del::Recreate { set: vec![del::Manifest::of(&deleted).unwrap()] };
    assert!(grants.decide(&recreate.effect(), &Tally::default()).is_ok());
}

#[test]
fn approval_is_required_unless_a_grant_of_the_layer_applies_without_it() {
    let mut manual = grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    manual.approval = Some(Approval::Required);
    let free = grant(Capability::DeleteReplicationsources, &["media"], &["a"]);
    let required_by = |grants: &Grants, name: &str| {
        grants.decide(&delete(&[("media", name)]), &Tally::default()).unwrap().approval
    };
    let policy = Some("policy.yaml".into());
    assert_eq!(required_by(&layers(&[&[manual.clone()]]), "a"), policy);
    assert_eq!(required_by(&layers(&[&[manual.clone(), free.clone()]]), "a"), None);
    assert_eq!(required_by(&layers(&[&[manual.clone(), free.clone()]]), "b"), policy);
    // Another layer never lifts the requirement.
    assert_eq!(required_by(&layers(&[&[manual], &[free]]), "a"), policy);
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let part = prop::sample::select(vec!["*", "a", "b", "a*", "?"]);
    (
        prop::sample::select(vec![Capability::DeleteReplicationsources, Capability::QueryPvcs]),
        prop::collection::vec(part.clone(), 0..3),
        prop::collection::vec(part, 0..3),
    )
        .prop_map(|(capability, namespaces, names)| grant(capability, &namespaces, &names))
}

proptest! {
    #[test]
    fn another_layer_never_widens_and_another_grant_never_narrows(
        one in prop::collection::vec(any_grant(), 0..4),
        two in prop::collection::vec(any_grant(), 0..4),
        extra in any_grant(),
        ns in prop::sample::select(vec!["a", "b", "ab"]),
        name in prop::sample::select(vec!["a", "b", "ab"]),
    ) {
        let effect = delete(&[(ns, name)]);
        let one_layer = may(&layers(&[&one]), &effect);
        let both = may(&layers(&[&one, &two]), &effect);
        prop_assert!(!both || one_layer);
        let more: Vec<_> = one.iter().cloned().chain([extra]).collect();
        prop_assert!(!one_layer || may(&layers(&[&more]), &effect));
    }
}

#[test]
fn the_targets_of_a_planned_write_must_be_named_by_every_layer() {
    let media = || grant(Capability::DeleteReplicationsources, &["media"], &["*"]);
    let only_a = || grant(Capability::DeleteReplicationsources, &["media"], &["a"]);
    let suspend = || grant(Capability::SuspendFlux, &["media"], &["*"]);
    let set = delete(&[("media", "a"), ("media", "b")]);
    for (grants, named) in [
        (layers(&[&[media()]]), true),
        (layers(&[&[media()], &[media()]]), true),
        (layers(&[&[media()], &[only_a()]]), false),
        (layers(&[&[only_a()]]), false),
        (layers(&[&[suspend()]]), false),
        (layers(&[]), false),
    ] {
        assert_eq!(grants.name_targets(&set), named, "{grants:?}");
    }
    let required = Grant { approval: Some(Approval::Required), ..media() };
    assert_eq!(layers(&[&[media()]]).approving_document(), None);
    let two = layers(&[&[media()], &[media(), required]]);
    assert_eq!(two.approving_document(), Some(two.layers[1].source.as_str()));
}
