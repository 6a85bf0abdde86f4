//! Which layers limit the credential of a run: whether its Role prevents what no run does, and
//! whether its admission policies exist.

use super::Account;
use crate::capability::host::Request;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something that can limit what a run sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The grants of the guest, and the footprint of each call.
    Host,
    /// The Role of the account.
    Role,
    /// The admission policies of the account.
    Admission,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "salve itself",
            Self::Role => "its Role",
            Self::Admission => "admission policies",
        })
    }
}

/// What limits a credential, checked before a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// Requests that the credential may send and no run needs. Empty: its Role is enforced. None:
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_requests: Option<Vec<String>>,
    /// Its admission policies that are missing or different. Empty: they are enforced. None: the
    /// account is not one of `salve rbac`, or they may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_policies: Option<Vec<String>>,
}

/// Returns requests that no run sends, one for each way to more permissions than a run needs.
pub fn excess_requests() -> Vec<Request> {
    let request = |verb: &str, group: &str, resource: &str, subresource: Option<&str>| Request {
        verb: verb.into(),
        group: group.into(),
        resource: resource.into(),
        subresource: subresource.map(str::to_owned),
        namespace: None,
        name: None,
    };
    vec![
        request("get", "", "secrets", None),
        request("create", "", "pods", None),
        request("create", "", "pods", Some("exec")),
        request("impersonate", "", "users", None),
        request("create", "", "serviceaccounts", Some("token")),
        request("delete", "", "persistentvolumeclaims", None),
        request("patch", "apps", "daemonsets", None),
        request("create", "rbac.authorization.k8s.io", "clusterrolebindings", None),
        request("escalate", "rbac.authorization.k8s.io", "clusterroles", None),
        request(
            "delete",
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings",
            None,
        ),
    ]
}

/// Returns the ServiceAccount that a user name is for.
pub fn account(user: &str) -> Option<Account> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(Account { namespace: namespace.into(), name: name.into() })
}

impl Enforcement {
    /// Returns each layer, whether it is enforced, and why.
    pub fn layers(&self) -> [(Layer, bool, String); 3] {
        let (role, role_reason) = match &self.excess_requests {
            Some(excess_requests) if excess_requests.is_empty() => {
                (true, "the credential may do nothing that no run does".to_owned())
            }
            Some(excess_requests) => {
                (false, format!("the credential also allows: {}", excess_requests.join(", ")))
            }
            None => {
                (false, "unknown: the API server did not say what the credential may do".into())
            }
        };
        let (admission, admission_reason) = match &self.missing_policies {
            Some(missing) if missing.is_empty() => (
                true,
                "the admission policies of this account are installed as generated from its \
                 documents"
                    .to_owned(),
            ),
            Some(missing) => (false, format!("missing: {}", missing.join(", "))),
            None => (false, "none are known for this account".into()),
        };
        [
            (Layer::Host, true, "the grants of the guest, and the footprint of each call".into()),
            (Layer::Role, role, role_reason),
            (Layer::Admission, admission, admission_reason),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_layer_does_not_count_as_enforced() {
        let enforced = |all: &Enforcement| all.layers().map(|(_, enforced, _)| enforced);
        assert_eq!(enforced(&Enforcement::default()), [true, false, false]);
        let all = Enforcement { excess_requests: Some(vec![]), missing_policies: Some(vec![]) };
        assert_eq!(enforced(&all), [true, true, true]);
        let none = Enforcement {
            excess_requests: Some(vec!["get secrets".into()]),
            missing_policies: Some(vec!["salve-x-patch-buckets".into()]),
        };
        assert_eq!(enforced(&none), [true, false, false]);
        assert!(
            none.layers()[1].2.contains("get secrets")
                && none.layers()[2].2.contains("salve-x-patch-buckets")
        );
    }

    #[test]
    fn only_a_service_account_is_an_account() {
        assert_eq!(
            account("system:serviceaccount:salve:volsync-unlock").unwrap(),
            Account { namespace: "salve".into(), name: "volsync-unlock".into() }
        );
        assert!(account("alice").is_none() && account("system:serviceaccount:salve").is_none());
    }
}
