//! `salve rbac`: what a run needs of the cluster, as objects to apply, and whether a credential has it.

use super::print_json;
use crate::arguments::{ClusterArguments, GuestOptions, Output, OutputArguments};
use crate::cluster::ClusterSession;
use crate::guest::ResolvedGuest;
use crate::output::manifest::yaml;
use crate::output::{ERROR, Failed, MUTED, OK, count};
use crate::session::load;
use clap::Args;
use salve_core::effect::host::{Request, ReviewAccess};
use salve_core::name;
use salve_core::permission::needs::{Needs, functions};
use salve_core::permission::{Account, admission, limits, role};
use salve_core::sanitize::sanitized;
use serde_json::{Value, json};

/// The least that a run needs: a ServiceAccount, its Roles, and the admission policies that hold it to the fields.
///
/// Prints objects for `kubectl apply -f -`, worked out from what the component imports and what its documents grant: Roles say which verbs on
/// which kinds in which namespaces, ValidatingAdmissionPolicies (Kubernetes 1.30 and later) which fields a patch may change. Narrower
/// documents make narrower Roles: see --policy.
///
/// With --check nothing is printed for applying: the API server is asked whether the credential in use (see --context, --as and
/// --service-account) may make each of the requests, and what is missing is named. Exit code 0: nothing is; 4: something is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  salve rbac volsync-unlock --policy policy.yaml | kubectl apply -f -\n  salve rbac volsync-unlock --check --service-account salve/volsync-unlock"
)]
pub struct Rbac {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path.
    guest: String,
    #[command(flatten)]
    terms: GuestOptions,
    /// Namespace of the ServiceAccount: one of its own, for whoever may edit a namespace may act as its ServiceAccounts.
    #[arg(long, value_name = "NS", default_value = "salve")]
    namespace: String,
    /// Name of the ServiceAccount [default: the guest's].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Also what `salve undo` needs: to create ReplicationSources.
    #[arg(long)]
    undo: bool,
    /// Without admission policies, for a Kubernetes before 1.30; says what the Roles alone would allow.
    #[arg(long, conflicts_with = "check")]
    without_admission: bool,
    /// Ask the API server whether the credential in use has all of it.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    cluster: ClusterArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// All that is known before anybody is asked.
struct Worked {
    guest: String,
    account: Account,
    needs: Needs,
    /// What only the host enforces.
    host: Vec<String>,
}

impl Rbac {
    /// Prints, or asks.
    pub async fn execute(self) -> Result<u8, Failed> {
        let worked = self.work().await?;
        if self.check {
            return self.ask(&worked).await;
        }
        let mut objects = role::objects(&worked.account, &worked.needs);
        if !self.without_admission {
            objects.extend(admission::objects(&worked.account, &worked.needs));
        }
        match self.output.output {
            Output::Json => {
                print_json(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?
            }
            Output::Human => self.print(&worked, &objects)?,
        }
        Ok(0)
    }

    async fn work(&self) -> Result<Worked, Failed> {
        let chosen = ResolvedGuest::find(&self.guest, &self.terms)?;
        let (guest, description) = load(&chosen.component, &chosen.origin, chosen.limits).await?;
        let functions = functions(guest.inspection().imported());
        let account = Account {
            namespace: self.namespace.clone(),
            name: self.name.clone().unwrap_or_else(|| description.name.clone()),
        };
        for (what, checked) in [
            ("--namespace", name::namespace(&account.namespace)),
            ("--name", name::object(&account.name)),
        ] {
            checked.map_err(|error| {
                Failed::usage(format!("{what}: {}", sanitized(&error.to_string())))
            })?;
        }
        let mut needs = Needs::of(&functions, &chosen.grants, self.undo);
        if !self.without_admission {
            needs.and_policies(&admission::names(&account, &needs));
        }
        let host = limits::of_the_host(&functions, &chosen.grants, &needs);
        Ok(Worked {
            guest: format!("{} {}", description.name, description.version),
            account,
            needs,
            host,
        })
    }

    fn print(&self, worked: &Worked, objects: &[Value]) -> Result<(), Failed> {
        let mut text = format!(
            "# What a run of {} needs, and no more. Written by `salve rbac`; kubectl apply -f FILE\n",
            sanitized(&worked.guest)
        );
        text += "#\n# Neither Role nor admission policy can say the rest; the host enforces it, against the guest, not against who holds the credential:\n";
        for said in &worked.host {
            text += &format!("#   - {}\n", sanitized(said));
        }
        let alone = limits::of_the_role_alone(&worked.needs);
        if !alone.is_empty() {
            text += if self.without_admission {
                "#\n# NO ADMISSION POLICIES: whoever holds this credential can, by hand:\n"
            } else {
                "#\n# Where the admission policies below do not hold (Kubernetes before 1.30), whoever holds this credential could, by hand:\n"
            };
            for said in alone {
                text += &format!("#   - {}\n", sanitized(&said));
            }
        }
        let anyway = limits::of_the_policies(&worked.needs);
        if !anyway.is_empty() {
            text += if self.without_admission {
                "#\n# And this:\n"
            } else {
                "#\n# And with all of it applied, still:\n"
            };
            for said in anyway {
                text += &format!("#   - {}\n", sanitized(&said));
            }
        }
        for object in objects {
            text += "---\n";
            text += &yaml(object)?;
        }
        anstream::print!("{text}");
        Ok(())
    }

    /// Asks for each request, and names those that are refused.
    async fn ask(&self, worked: &Worked) -> Result<u8, Failed> {
        let open = ClusterSession::live(&self.cluster).await?;
        let requests = worked.needs.requests();
        let answers = open.ask(ReviewAccess { requests: requests.clone() }).await?;
        let missing: Vec<&Request> = requests
            .iter()
            .zip(&answers)
            .filter(|(_, allowed)| !**allowed)
            .map(|(request, _)| request)
            .collect();
        let user = open.identity.user.as_deref().unwrap_or("this credential");
        match self.output.output {
            Output::Json => {
                let words: Vec<_> = missing.iter().map(|request| request.to_string()).collect();
                print_json(&json!({
                    "apiVersion": "salve.dev/v1alpha1", "kind": "AccessCheck", "user": open.identity.user, "context": open.context,
                    "asked": requests.len(), "missing": missing, "words": words,
                }))?;
            }
            Output::Human if missing.is_empty() => {
                anstream::println!(
                    "{OK}ALLOWED{OK:#}  {} may make all {} kinds of request of a run of {}",
                    sanitized(user),
                    requests.len(),
                    sanitized(&worked.guest)
                );
            }
            Output::Human => {
                anstream::println!(
                    "{ERROR}MISSING{ERROR:#}  {} may not, and a run of {} may have to:\n",
                    sanitized(user),
                    sanitized(&worked.guest)
                );
                missing.iter().for_each(|request| {
                    anstream::println!("  {}", sanitized(&request.to_string()))
                });
                anstream::println!(
                    "\n{MUTED}{} of {}; to grant it all: salve rbac {} | kubectl apply -f -{MUTED:#}",
                    missing.len(),
                    count(requests.len(), "request"),
                    sanitized(&self.guest)
                );
            }
        }
        Ok(if missing.is_empty() { 0 } else { 4 })
    }
}
