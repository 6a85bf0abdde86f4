//! Reads for the host itself: identity, permissions, admission policies, and leftovers of earlier
//! runs.

use crate::discovery;
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
    let (version, system, user) = futures::join!(
        version(session),
        session.get(&NAMESPACES, None, "kube-system"),
        user(session)
    );
    let version = match version {
        Err(failure) if failure.code() == Some(403) => "unknown".into(),
        other => other?,
    };
    Ok(ClusterIdentity {
        uid: if_allowed(system)?.map(|namespace| uid(&namespace).to_owned()),
        version,
        user: user?,
    })
}

/// Returns the name of the user, if the API server reports it.
async fn user(session: &Session) -> Result<Option<String>, Error> {
    let username = |review: &Value| owned(review, "/status/userInfo/username");
    match if_allowed(session.find_review(&SELF_REVIEWS).await)? {
        Some(Some(review)) => return Ok(username(&review)),
        Some(None) => {}
        None => return Ok(None),
    }
    // Kubernetes before 1.28 has no SelfSubjectReview.
    match discovery::find_resource(session, &SELF_REVIEWS.group, &SELF_REVIEWS.plural).await? {
        Some(_) => {
            let review = if_allowed(session.review(&SELF_REVIEWS, None).await)?;
            Ok(review.as_ref().and_then(username))
        }
        None => Ok(None),
    }
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
    // Kubernetes before 1.30 does not serve `v1`.
    let served = discovery::find_resource(session, &POLICIES.group, &POLICIES.plural).await?;
    if served.is_none_or(|served| served.version != POLICIES.version) {
        return Ok(vec![PolicyStatus::Missing; call.policies.len()]);
    }
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

/// Returns None if the credential may not make the request, or the object does not exist.
fn if_allowed<T>(result: Result<T, Failure>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.code() == Some(403) || failure.is_absent() => Ok(None),
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
