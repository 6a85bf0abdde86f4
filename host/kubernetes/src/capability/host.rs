//! Reads for the host itself: identity, permissions, admission policies, and leftovers of earlier
//! runs.

use crate::failure::Failure;
use crate::object::{owned, text, uid};
use crate::perform::{PerformRead, PerformReversal};
use crate::resource::{ACCESS_REVIEWS, NAMESPACES, POLICIES, POLICY_BINDINGS, SELF_REVIEWS};
use crate::send::{MAX_CONCURRENT_REQUESTS, Session, concurrently};
use crate::service_account;
use salve_core::capability::host::{
    CheckPolicies, ClusterIdentity, FindLeftovers, GetIdentity, Issued, Leftover, PolicyStatus,
    RequestToken, ReviewAccess,
};
use salve_core::capability::types::Kind;
use salve_core::outcome::Error;
use serde_json::{Value, json};

/// Returns the API server's version, cached per cluster.
pub(crate) async fn version(session: &Session) -> Result<String, Failure> {
    if let Some(known) = session.cluster().cached_version() {
        return Ok(known);
    }
    let found = session.get_path("/version").await?;
    let version = text(&found, "/gitVersion").unwrap_or("unknown").to_owned();
    session.cluster().cache_version(&version);
    Ok(version)
}

/// Returns the identity of the cluster and of the user. Fields that the credential may not read are
/// left out.
async fn identity(session: &Session) -> Result<ClusterIdentity, Error> {
    let (version, system, review) = futures::join!(
        version(session),
        session.get(&NAMESPACES, None, "kube-system"),
        session.review(&SELF_REVIEWS, None)
    );
    let version = match version {
        Err(failure) if failure.code() == Some(403) => "unknown".into(),
        other => other?,
    };
    Ok(ClusterIdentity {
        uid: if_allowed(system)?.map(|namespace| uid(&namespace).to_owned()),
        version,
        user: if_allowed(review)?.and_then(|review| owned(&review, "/status/userInfo/username")),
    })
}

/// Reviews whether the credential may make each of the requests, in their order.
async fn access(session: &Session, call: &ReviewAccess) -> Result<Vec<bool>, Error> {
    let reviews = call.requests.iter().map(|request| async move {
        let attributes = json!({
            "verb": request.verb, "group": request.group, "resource": request.resource,
            "subresource": request.subresource,
            "namespace": request.namespace, "name": request.name,
        });
        session.review(&ACCESS_REVIEWS, Some(json!({"resourceAttributes": attributes}))).await
    });
    let reviews = concurrently(reviews.collect(), MAX_CONCURRENT_REQUESTS).await;
    reviews
        .into_iter()
        .map(|review| {
            Ok(review?.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
        })
        .collect()
}

/// Compares each admission policy and its binding with the expected one.
async fn policies(session: &Session, call: &CheckPolicies) -> Result<Vec<PolicyStatus>, Error> {
    let statuses = call.policies.iter().map(|expected| async move {
        let (policy, binding) = futures::join!(
            session.find(&POLICIES, None, &expected.name),
            session.find(&POLICY_BINDINGS, None, &expected.name)
        );
        let (Some(policy), Some(binding)) = (policy?, binding?) else {
            return Ok::<_, Failure>(PolicyStatus::Missing);
        };
        let same = without_defaults(policy["spec"].clone()) == expected.spec
            && without_defaults(binding["spec"].clone()) == expected.binding;
        Ok(if same { PolicyStatus::Enforced } else { PolicyStatus::Different })
    });
    let statuses = concurrently(statuses.collect(), MAX_CONCURRENT_REQUESTS).await;
    Ok(statuses.into_iter().collect::<Result<_, Failure>>()?)
}

/// Removes the defaults that the API server adds to the spec of a policy or binding. Each of them
/// means "match everything".
fn without_defaults(mut spec: Value) -> Value {
    let empty = json!({});
    for matched in ["matchConstraints", "matchResources"] {
        let Some(matched) = spec.get_mut(matched).and_then(Value::as_object_mut) else { continue };
        matched.retain(|key, value| {
            !(key == "matchPolicy" && value == "Equivalent"
                || key.ends_with("Selector") && *value == empty)
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
    if spec.get("matchResources") == Some(&empty) {
        spec.as_object_mut().map(|spec| spec.remove("matchResources"));
    }
    spec
}

/// Returns None if the credential may not make the request.
fn if_allowed(result: Result<Value, Failure>) -> Result<Option<Value>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        // Kubernetes before 1.28 has no SelfSubjectReview.
        Err(failure) if matches!(failure.code(), Some(403 | 404)) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Finds what the reversible writes of any run left behind.
async fn leftovers(session: &Session, kinds: &[Kind]) -> Result<Vec<Leftover>, Error> {
    macro_rules! find_all {
        ({} $($module:ident $type:ident;)*) => {{
            let mut all = vec![];
            $(all.extend(
                <salve_core::capability::$module::$type as PerformReversal>::leftovers(
                    session, kinds,
                )
                .await?,
            );)*
            all
        }};
    }
    Ok(salve_core::each_function! { reversals [find_all] })
}

impl PerformRead for GetIdentity {
    async fn read(&self, session: &Session) -> Result<ClusterIdentity, Error> {
        identity(session).await
    }
}

impl PerformRead for ReviewAccess {
    async fn read(&self, session: &Session) -> Result<Vec<bool>, Error> {
        access(session, self).await
    }
}

impl PerformRead for RequestToken {
    async fn read(&self, session: &Session) -> Result<Issued, Error> {
        Ok(service_account::token(session, self).await?.1)
    }
}

impl PerformRead for CheckPolicies {
    async fn read(&self, session: &Session) -> Result<Vec<PolicyStatus>, Error> {
        policies(session, self).await
    }
}

impl PerformRead for FindLeftovers {
    async fn read(&self, session: &Session) -> Result<Vec<Leftover>, Error> {
        leftovers(session, &self.kinds).await
    }
}
