//! Flags that several commands share.

use clap::{Args, ValueEnum};
use salve_core::name;
use salve_kubernetes::IN_CLUSTER;
use std::path::PathBuf;

/// Which guest, under which documents, with which configuration.
#[derive(Debug, Args)]
pub struct GuestArguments {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path.
    pub guest: String,
    /// What holds for it.
    #[command(flatten)]
    pub terms: GuestOptions,
}

/// Under which documents, with which configuration.
#[derive(Debug, Default, Args)]
pub struct GuestOptions {
    /// A configuration key; repeatable. Lists by comma. `salve inspect GUEST` names the keys.
    #[arg(long = "config", value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// Configuration as YAML or JSON.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// The Remediation document that says what the guest may ask for, in place of its own.
    #[arg(long, value_name = "FILE")]
    pub remediation: Option<PathBuf>,
    /// The operator's ceiling: a Policy document. What holds is the intersection.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// Which cluster, as whom.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArguments {
    /// Path of the kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's own account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Impersonate this user, e.g. `system:serviceaccount:salve:volsync-unlock`.
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as this ServiceAccount, by short-lived tokens that the kubeconfig's credentials ask for and are then not used any more.
    #[arg(long, value_name = "NS/NAME", conflicts_with = "as_user", value_parser = service_account)]
    pub service_account: Option<(String, String)>,
}

fn service_account(text: &str) -> Result<(String, String), String> {
    let (namespace, name) =
        text.split_once('/').ok_or("NAMESPACE/NAME is wanted, e.g. salve/volsync-unlock")?;
    name::namespace(namespace)
        .and_then(|()| name::object(name))
        .map_err(|error| error.text().to_owned())?;
    Ok((namespace.into(), name.into()))
}

impl ClusterArguments {
    /// The same, with the context of an earlier run where none is named.
    pub fn or_context(&self, context: &str) -> Self {
        let context = Some(context.to_owned()).filter(|context| context != IN_CLUSTER);
        Self { context: self.context.clone().or(context), ..self.clone() }
    }
}

/// How to answer, and where to keep the record.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// How results look. `json` is one document, `kind: Report`.
    #[arg(long, short, value_enum, default_value_t = Output::Human)]
    pub output: Output,
}

/// Where run files go.
#[derive(Debug, Args)]
pub struct RunsArguments {
    /// Folder of run files [default: the user's state folder].
    #[arg(long, value_name = "DIR")]
    pub runs: Option<PathBuf>,
}

/// How results look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// For programs.
    Json,
}
