//! `salve rbac`: derives the permissions of a run as RBAC objects, or checks that a credential has
//! them.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestOptions, Output, OutputArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::manifest::yaml;
use crate::output::{CommandError, ERROR, MUTED, OK, plural};
use crate::session::load;
use clap::Args;
use salve_core::capability::host::{Request, ReviewAccess};
use salve_core::document::API_VERSION;
use salve_core::name;
use salve_core::permission::needs::{Needs, functions};
use salve_core::permission::{Account, admission, limits, role};
use salve_core::sanitize::sanitized;
use serde_json::{Value, json};

/// Print the minimal RBAC objects for a run: a ServiceAccount, Roles, and admission policies.
///
/// Prints objects for `kubectl apply -f -`, derived from the component's imports and the grants of
/// its documents. Roles limit verbs, resources, and namespaces; ValidatingAdmissionPolicies
/// (Kubernetes 1.30 and later) limit the fields that a patch may change. Narrower documents give
/// narrower Roles: see --policy.
///
/// With --check, no objects are printed. Instead, the API server is asked whether the credential in
/// use (see --context, --as, and --service-account) has each of these permissions, and missing ones
/// are listed. Exit code 0: none is missing. 4: some are missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    salve rbac volsync-unlock --policy policy.yaml | kubectl apply -f -\n  \
    salve rbac volsync-unlock --check --service-account salve/volsync-unlock")]
pub struct Rbac {
    /// Shipped guest (`volsync-unlock`), or path of a component or a Remediation document.
    guest: String,
    #[command(flatten)]
    options: GuestOptions,
    /// Namespace of the ServiceAccount. Use a dedicated one: anyone with edit access to a namespace
    /// can act as its ServiceAccounts.
    #[arg(long, value_name = "NS", default_value = "salve")]
    namespace: String,
    /// Name of the ServiceAccount [default: the guest's name].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Also grant what `salve undo` needs: creating ReplicationSources.
    #[arg(long)]
    undo: bool,
    /// Omit the admission policies, for Kubernetes before 1.30. The printed header lists what the
    /// Roles alone allow.
    #[arg(long, conflicts_with = "check")]
    without_admission: bool,
    /// Check that the credential in use has these permissions, instead of printing objects.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// The permissions of a run.
struct Permissions {
    /// Name and version of the guest.
    guest: String,
    account: Account,
    needs: Needs,
    /// Limits that only the host enforces.
    host_limits: Vec<String>,
}

impl Rbac {
    /// Prints the objects or checks the credential, and returns the exit code.
    pub async fn execute(self) -> Result<u8, CommandError> {
        let permissions = self.derive().await?;
        if self.check {
            return self.check_access(&permissions).await;
        }
        let mut objects = role::objects(&permissions.account, &permissions.needs);
        if !self.without_admission {
            objects.extend(admission::objects(&permissions.account, &permissions.needs));
        }
        match self.output.output {
            Output::Json => {
                print_json(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?
            }
            Output::Human => self.print(&permissions, &objects)?,
        }
        Ok(0)
    }

    async fn derive(&self) -> Result<Permissions, CommandError> {
        let resolved = ResolvedGuest::resolve(&self.guest, &self.options)?;
        let (guest, description) =
            load(&resolved.component, &resolved.origin, resolved.limits).await?;
        let functions = functions(guest.inspection().imported());
        let account = Account {
            namespace: self.namespace.clone(),
            name: self.name.clone().unwrap_or_else(|| description.name.clone()),
        };
        for (flag, checked) in [
            ("--namespace", name::namespace(&account.namespace)),
            ("--name", name::object(&account.name)),
        ] {
            checked.map_err(|error| {
                CommandError::usage(format!("{flag}: {}", sanitized(&error.to_string())))
            })?;
        }
        let mut needs = Needs::new(&functions, &resolved.grants, self.undo);
        if !self.without_admission {
            needs.add_policy_checks(&admission::names(&account, &needs));
        }
        let host_limits = limits::enforced_by_host_only(&functions, &resolved.grants, &needs);
        Ok(Permissions {
            guest: format!("{} {}", description.name, description.version),
            account,
            needs,
            host_limits,
        })
    }

    /// Prints the objects below a header that lists what they cannot prevent.
    fn print(&self, permissions: &Permissions, objects: &[Value]) -> Result<(), CommandError> {
        let mut text = format!(
            "# Minimal permissions for a run of {}, generated by `salve rbac`. Apply with: \
             kubectl apply -f FILE\n",
            sanitized(&permissions.guest)
        );
        text += "#\n# Roles and admission policies cannot express these limits. Only the host \
                 enforces them, on the guest but not on other users of this credential:\n";
        push_list(&mut text, &permissions.host_limits);
        let role_alone = limits::allowed_by_role_alone(&permissions.needs);
        if !role_alone.is_empty() {
            text += if self.without_admission {
                "#\n# NO ADMISSION POLICIES: anyone with this credential can:\n"
            } else {
                "#\n# Without the admission policies below (Kubernetes before 1.30), anyone with \
                 this credential could:\n"
            };
            push_list(&mut text, &role_alone);
        }
        let with_policies = limits::allowed_despite_policies(&permissions.needs);
        if !with_policies.is_empty() {
            text += if self.without_admission {
                "#\n# Even with admission policies, anyone with this credential could:\n"
            } else {
                "#\n# Even with everything applied, anyone with this credential can:\n"
            };
            push_list(&mut text, &with_policies);
        }
        for object in objects {
            text += "---\n";
            text += &yaml(object)?;
        }
        anstream::print!("{text}");
        Ok(())
    }

    /// Asks the API server about each request and prints those that are not allowed.
    async fn check_access(&self, permissions: &Permissions) -> Result<u8, CommandError> {
        let cluster = ClusterSession::live(&self.cluster).await?;
        let requests = permissions.needs.requests();
        let answers = cluster.read(ReviewAccess { requests: requests.clone() }).await?;
        let missing: Vec<&Request> = requests
            .iter()
            .zip(&answers)
            .filter(|(_, allowed)| !**allowed)
            .map(|(request, _)| request)
            .collect();
        let user = cluster.identity.user.as_deref().unwrap_or("this credential");
        let guest = sanitized(&permissions.guest);
        match self.output.output {
            Output::Json => {
                let text: Vec<_> = missing.iter().map(|request| request.to_string()).collect();
                print_json(&json!({
                    "apiVersion": API_VERSION,
                    "kind": "AccessCheck",
                    "user": cluster.identity.user,
                    "context": cluster.context,
                    "asked": requests.len(),
                    "missing": missing,
                    "text": text,
                }))?;
            }
            Output::Human if missing.is_empty() => {
                anstream::println!(
                    "{OK}ALLOWED{OK:#}  {} has all {} that a run of {guest} may need",
                    sanitized(user),
                    plural(requests.len(), "permission"),
                );
            }
            Output::Human => {
                anstream::println!(
                    "{ERROR}MISSING{ERROR:#}  {} lacks permissions that a run of {guest} may \
                     need:\n",
                    sanitized(user),
                );
                missing.iter().for_each(|request| {
                    anstream::println!("  {}", sanitized(&request.to_string()))
                });
                anstream::println!(
                    "\n{MUTED}{} of {} missing; to grant all: salve rbac {} | kubectl apply -f \
                     -{MUTED:#}",
                    missing.len(),
                    plural(requests.len(), "permission"),
                    sanitized(&self.guest)
                );
            }
        }
        Ok(if missing.is_empty() { 0 } else { 4 })
    }
}

/// Appends each item as a comment line.
fn push_list(text: &mut String, items: &[String]) {
    for item in items {
        *text += &format!("#   - {}\n", sanitized(item));
    }
}
