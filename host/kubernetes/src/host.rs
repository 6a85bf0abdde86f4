//! What the host itself asks: which cluster is this, who am I to it, what did earlier runs leave behind?

use crate::discovery;
use crate::failure::Failure;
use crate::flux;
use crate::object::{annotation, capped, instant, name, namespace, owned, text, uid};
use crate::resource::{ACCESS_REVIEWS, NAMESPACES, POLICIES, POLICY_BINDINGS, SELF_REVIEWS};
use crate::send::{Narrow, Session, concurrently};
use salve_core::effect::host::{
    CheckPolicies, ClusterIdentity, Leftover, PolicyStatus, ReviewAccess,
};
use salve_core::effect::shared::{FluxKind, FluxRef};
use salve_core::effect::suspend_flux::{DEADLINE, PRIOR, PreviousSuspend, REASON, RUN};
use salve_core::outcome::Error;
use serde_json::{Value, json};

/// The API server's version. Asked once for each cluster.
pub(crate) async fn version(session: &Session) -> Result<String, Error> {
    if let Some(known) = session.cluster().known_version() {
        return Ok(known);
    }
    let found = session.read("/version").await?;
    let version = text(&found, "/gitVersion").unwrap_or("unknown").to_owned();
    session.cluster().learn_version(&version);
    Ok(version)
}

/// Which cluster it is, and who asks. What the credential may not read is left out.
pub(crate) async fn identity(session: &Session) -> Result<ClusterIdentity, Error> {
    let (version, system, review) = futures::join!(
        version(session),
        session.get(&NAMESPACES, None, "kube-system"),
        session.review(&SELF_REVIEWS, None)
    );
    let version = match version {
        Err(Error::Denied(_)) => "unknown".into(),
        other => other?,
    };
    Ok(ClusterIdentity {
        uid: where_allowed(system)?.map(|namespace| uid(&namespace).to_owned()),
        version,
        user: where_allowed(review)?.and_then(|review| owned(&review, "/status/userInfo/username")),
    })
}

/// How many reviews are under way at once.
const REVIEWS_AT_ONCE: usize = 16;

/// What this credential may do, one answer for each request in the same order.
pub(crate) async fn access(session: &Session, ask: &ReviewAccess) -> Result<Vec<bool>, Error> {
    let reviews = ask.requests.iter().map(|request| async move {
        let attributes = json!({
            "verb": request.verb, "group": request.group, "resource": request.resource, "subresource": request.subresource,
            "namespace": request.namespace, "name": request.name,
        });
        session.review(&ACCESS_REVIEWS, Some(json!({"resourceAttributes": attributes}))).await
    });
    let answers = concurrently(reviews.collect(), REVIEWS_AT_ONCE).await;
    answers
        .into_iter()
        .map(|answer| {
            Ok(answer?.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
        })
        .collect()
}

/// How each of these admission policies stands.
pub(crate) async fn policies(
    session: &Session,
    ask: &CheckPolicies,
) -> Result<Vec<PolicyStatus>, Error> {
    let each = ask.policies.iter().map(|wanted| async move {
        let (policy, binding) = futures::join!(
            session.find(&POLICIES, None, &wanted.name),
            session.find(&POLICY_BINDINGS, None, &wanted.name)
        );
        let (Some(policy), Some(binding)) = (policy?, binding?) else {
            return Ok::<_, Failure>(PolicyStatus::Absent);
        };
        let same = undefaulted(policy["spec"].clone()) == wanted.spec
            && undefaulted(binding["spec"].clone()) == wanted.binding;
        Ok(if same { PolicyStatus::Held } else { PolicyStatus::Different })
    });
    let answers = concurrently(each.collect(), REVIEWS_AT_ONCE).await;
    Ok(answers.into_iter().collect::<Result<_, Failure>>()?)
}

/// Without what an API server adds to the spec of a policy or of its binding: each of these means that nothing is left out.
fn undefaulted(mut spec: Value) -> Value {
    let none = json!({});
    for matched in ["matchConstraints", "matchResources"] {
        let Some(matched) = spec.get_mut(matched).and_then(Value::as_object_mut) else { continue };
        matched.retain(|key, value| {
            !(key == "matchPolicy" && value == "Equivalent"
                || key.ends_with("Selector") && *value == none)
        });
        for rule in matched
            .get_mut("resourceRules")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            rule.retain(|key, value| !(key == "scope" && value == "*"));
        }
    }
    if spec.get("matchResources") == Some(&none) {
        spec.as_object_mut().map(|spec| spec.remove("matchResources"));
    }
    spec
}

fn where_allowed(answer: Result<Value, Failure>) -> Result<Option<Value>, Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        // A Kubernetes before 1.28 has no self-review.
        Err(failure) if matches!(failure.code(), Some(403 | 404)) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Every Flux object of the cluster that bears the mark of a run.
pub(crate) async fn leftovers(session: &Session) -> Result<Vec<Leftover>, Error> {
    let mut all = Vec::new();
    // mutant leftovers-skip-kustomizations: ALL ~> ALL.into_iter().skip(1)
    for kind in FluxKind::ALL {
        let Some(resource) = discovery::look_up(session, kind.group(), kind.plural()).await? else {
            continue;
        };
        let objects = session.list(&resource, None, Narrow::default()).await?;
        all.extend(objects.iter().filter_map(|object| leftover(kind, object)));
    }
    all.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(all)
}

fn leftover(kind: FluxKind, object: &Value) -> Option<Leftover> {
    // A recovery makes a suspend that may still be on its way void, and marks what it has done so.
    let run =
        annotation(object, RUN).or_else(|| annotation(object, DEADLINE)?.strip_prefix("void: "))?;
    Some(Leftover {
        target: FluxRef {
            kind,
            namespace: namespace(object).to_owned(),
            name: name(object).to_owned(),
        },
        run: capped(run, 200),
        reason: capped(annotation(object, REASON).unwrap_or_default(), 1024),
        deadline: instant(&json!({"at": annotation(object, DEADLINE)}), "/at"),
        suspended: flux::suspend(object) == PreviousSuspend::True,
        previous: match annotation(object, PRIOR) {
            Some("false") => PreviousSuspend::False,
            Some("true") => PreviousSuspend::True,
            Some(_) | None => PreviousSuspend::Absent,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_whole() {
        let object = json!({"metadata": {"name": "plex", "namespace": "media", "annotations": {RUN: "r", REASON: "why", DEADLINE: "2026-08-20T10:00:00Z", PRIOR: "false"}},
            "spec": {"suspend": true}});
        let found = leftover(FluxKind::Kustomization, &object).unwrap();
        assert_eq!(
            (
                found.run.as_str(),
                found.reason.as_str(),
                found.deadline,
                found.suspended,
                found.observed
            ),
            ("r", "why", Some(1_787_220_000_000), true, PreviousSuspend::False)
        );
        assert!(
            leftover(FluxKind::Kustomization, &json!({"metadata": {"name": "plex"}})).is_none()
        );
        let void = json!({"metadata": {"name": "plex", "annotations": {DEADLINE: "void: r"}}});
        assert!(
            leftover(FluxKind::Kustomization, &void)
                .is_some_and(|left| left.run == "r" && !left.suspended)
        );
    }
}
