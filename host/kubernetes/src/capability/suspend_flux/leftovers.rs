//! Finds the suspensions that runs left behind.

use crate::discovery;
use crate::object::{annotation, name, namespace, uid};
use crate::send::{ListFilter, Session};
use crate::temporary_change;
use salve_core::capability::Reversal;
use salve_core::capability::host::Leftover;
use salve_core::capability::suspend_flux::{PREVIOUS, PreviousSuspend, Resume};
use salve_core::capability::types::{FluxKind, FluxRef};
use salve_core::outcome::Error;
use serde_json::Value;

/// Lists every Flux object of the cluster that a run annotated.
pub(super) async fn find(session: &Session) -> Result<Vec<Leftover>, Error> {
    let mut all = Vec::new();
    // mutant leftovers-skip-kustomizations: ALL ~> ALL.into_iter().skip(1)
    for kind in FluxKind::ALL {
        let Some(resource) = discovery::find_resource(session, kind.group(), kind.plural()).await?
        else {
            continue;
        };
        let objects = session.list(&resource, None, ListFilter::default()).await?;
        all.extend(objects.iter().filter_map(|object| parse_leftover(kind, object)));
    }
    all.sort_by_key(|leftover: &Leftover| {
        leftover.reversal.targets().first().map(ToString::to_string)
    });
    Ok(all)
}

fn parse_leftover(kind: FluxKind, object: &Value) -> Option<Leftover> {
    let target =
        FluxRef { kind, namespace: namespace(object).to_owned(), name: name(object).to_owned() };
    let previous = PreviousSuspend::parse(annotation(object, PREVIOUS));
    let active = PreviousSuspend::of(object) == PreviousSuspend::True;
    let resume = Resume { target, uid: uid(object).to_owned(), previous };
    temporary_change::leftover(object, active, Reversal::Resume(resume))
}

#[cfg(test)]
mod tests {
    use super::*;
    use salve_core::capability::run_annotations::{DEADLINE, REASON, RUN};
    use serde_json::json;

    #[test]
    fn annotations_of_a_run_are_parsed() {
        let object = json!({"metadata": {"name": "plex", "namespace": "media",
            "annotations": {RUN: "r", REASON: "why", DEADLINE: "2026-08-20T10:00:00Z",
            PREVIOUS: "false"}},
            "spec": {"suspend": true}});
        let found = parse_leftover(FluxKind::Kustomization, &object).unwrap();
        assert_eq!(
            (found.run.as_str(), found.reason.as_str(), found.deadline, found.active),
            ("r", "why", Some(1_787_220_000_000), true)
        );
        assert!(matches!(
            found.reversal,
            Reversal::Resume(Resume { previous: PreviousSuspend::False, .. })
        ));
        assert!(
            parse_leftover(FluxKind::Kustomization, &json!({"metadata": {"name": "plex"}}))
                .is_none()
        );
        let noted = json!({"metadata": {"name": "plex", "annotations": {DEADLINE: "void: r"}}});
        assert!(
            parse_leftover(FluxKind::Kustomization, &noted)
                .is_some_and(|left| left.run == "r" && !left.active)
        );
    }
}
