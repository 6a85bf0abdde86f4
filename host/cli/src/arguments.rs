//! Flags that several commands share.

use clap::{Args, ValueEnum};
use salve_core::name;
use salve_kubernetes::IN_CLUSTER;
use std::path::PathBuf;

/// A guest with its documents and its configuration.
#[derive(Debug, Args)]
pub struct GuestArguments {
    /// A shipped guest (`volsync-unlock`), a component's path, or a Remediation document's path.
    pub guest: String,
    #[command(flatten)]
    pub options: GuestOptions,
}

/// The documents and the configuration of a guest.
#[derive(Debug, Default, Args)]
pub struct GuestOptions {
    /// Set a configuration key; repeatable. Separate list items with commas. `salve inspect GUEST`
    /// lists the keys.
    #[arg(long = "config", value_name = "KEY=VALUE")]
    pub config: Vec<String>,
    /// Read configuration from a YAML or JSON file.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Use this Remediation document, which states what the guest may request, instead of the
    /// guest's own.
    #[arg(long, value_name = "FILE")]
    pub remediation: Option<PathBuf>,
    /// Apply a RemediationPolicy document as an upper limit: only what both documents grant is
    /// allowed.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}

/// A cluster and the account to use on it.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArguments {
    /// Path of the kubeconfig [default: $KUBECONFIG, ~/.kube/config, or the pod's service account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Impersonate this user, e.g. `system:serviceaccount:salve:volsync-unlock`.
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as this ServiceAccount: the kubeconfig's credentials request short-lived tokens for it
    /// and are used for nothing else.
    #[arg(
        long,
        value_name = "NS/NAME",
        conflicts_with = "as_user",
        value_parser = parse_service_account
    )]
    pub service_account: Option<(String, String)>,
}

fn parse_service_account(text: &str) -> Result<(String, String), String> {
    let (namespace, name) =
        text.split_once('/').ok_or("expected NAMESPACE/NAME, e.g. salve/volsync-unlock")?;
    name::namespace(namespace)
        .and_then(|()| name::object(name))
        .map_err(|error| error.text().to_owned())?;
    Ok((namespace.into(), name.into()))
}

impl ClusterArguments {
    /// Returns these arguments with the context of an earlier run, unless a context was given.
    pub fn or_context(&self, context: &str) -> Self {
        let context = Some(context.to_owned()).filter(|context| context != IN_CLUSTER);
        Self { context: self.context.clone().or(context), ..self.clone() }
    }
}

/// The output format of a command.
#[derive(Debug, Args)]
pub struct OutputArguments {
    /// Output format. `json` prints one document.
    #[arg(long, short, value_enum, default_value_t = Output::Human)]
    pub output: Output,
}

/// The folder of run files.
#[derive(Debug, Args)]
pub struct RunsArguments {
    /// Folder of run files [default: $XDG_STATE_HOME/salve/runs or ~/.local/state/salve/runs].
    #[arg(long, value_name = "DIR")]
    pub runs: Option<PathBuf>,
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for a terminal.
    Human,
    /// One JSON document.
    Json,
}
