//! Which rings hold the credential of a run: whether its Role keeps it from what no run does, and whether its admission policies are there.

use super::Account;
use crate::effect::host::Request;
use serde::{Deserialize, Serialize};

/// What was found out about a credential, before a run began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// What it may do that no run does. Empty: its Role holds. None: it could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess_requests: Option<Vec<String>>,
    /// Its admission policies that are not there, or not as they should be. Empty: they hold. None: it is no account of `salve rbac`, or they may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_policies: Option<Vec<String>>,
}

/// Requests that no run makes, one of each way to more than a run needs.
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

/// The account that a user name stands for, where it is a ServiceAccount's.
pub fn account(user: &str) -> Option<Account> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(Account { namespace: namespace.into(), name: name.into() })
}

impl Enforcement {
    /// Each ring by its name, whether it holds, and a sentence.
    pub fn told(&self) -> [(&'static str, bool, String); 3] {
        let (role, role_said) = match &self.excess_requests {
            Some(excess_requests) if excess_requests.is_empty() => {
                (true, "the credential may do nothing of what no run does".to_owned())
            }
            Some(excess_requests) => (
                false,
                format!("the credential may do what no run does: {}", excess_requests.join(", ")),
            ),
            None => {
                (false, "not known: the API server did not say what the credential may do".into())
            }
        };
        let (admission, admission_said) = match &self.missing_policies {
            Some(missing) if missing.is_empty() => (
                true,
                "the admission policies of this account are there, as its documents make them"
                    .to_owned(),
            ),
            Some(missing) => (
                false,
                format!(
                    "of the account's admission policies there is no {}",
                    missing.join(", no ")
                ),
            ),
            None => (
                false,
                "no admission policies of this account are known: salve rbac makes them".into(),
            ),
        };
        [
            ("host", true, "the guest: its grants, the footprint of each effect".into()),
            ("role", role, role_said),
            ("admission", admission, admission_said),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_is_not_known_does_not_hold() {
        let holds = |enforcement: &Enforcement| enforcement.told().map(|(_, holds, _)| holds);
        assert_eq!(holds(&Enforcement::default()), [true, false, false]);
        let all = Enforcement { excess_requests: Some(vec![]), missing_policies: Some(vec![]) };
        assert_eq!(holds(&all), [true, true, true]);
        let none = Enforcement {
            excess_requests: Some(vec!["get secrets".into()]),
            missing_policies: Some(vec!["salve-x-patch-buckets".into()]),
        };
        assert_eq!(holds(&none), [true, false, false]);
        assert!(
            none.told()[1].2.contains("get secrets")
                && none.told()[2].2.contains("no salve-x-patch-buckets")
        );
    }

    #[test]
    fn only_a_service_account_is_one() {
        assert_eq!(
            account("system:serviceaccount:salve:volsync-unlock").unwrap(),
            Account { namespace: "salve".into(), name: "volsync-unlock".into() }
        );
        assert!(account("alice").is_none() && account("system:serviceaccount:salve").is_none());
    }
}
