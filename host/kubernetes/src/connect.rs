//! Reaches a live cluster as kubectl would: kubeconfig, context, exec plugins, impersonation, or from within a pod.

use crate::clock::LiveClock;
use crate::cluster::Cluster;
use crate::egress::EgressGuard;
use crate::failure::{How, credentials, sort};
use crate::send::Session;
use crate::service_account::Tokens;
use http::header::{HeaderValue, USER_AGENT};
use kube::Config;
use kube::client::{AuthError, ClientBuilder};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};
use salve_core::effect::host::GetIdentity;
use salve_core::effect::{Effect, Read};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What stands for the context's name within a pod.
pub const IN_CLUSTER: &str = "in-cluster";

/// How a cluster is to be reached; what is left out is found as kubectl finds it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// This kubeconfig and no other.
    pub kubeconfig: Option<PathBuf>,
    /// This context, not the current one.
    pub context: Option<String>,
    /// To be taken for this user.
    pub as_user: Option<String>,
    /// And as a member of these groups.
    pub as_groups: Vec<String>,
    /// To act as this ServiceAccount (namespace, name), by short-lived tokens that these credentials ask for.
    pub service_account: Option<(String, String)>,
}

/// Why a cluster cannot be reached. No text of a plugin or a server's page is in it: they can hold secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nothing says where a cluster is.
    #[error(
        "no kubeconfig: neither --kubeconfig nor KUBECONFIG nor ~/.kube/config leads to one, and this is no pod of a cluster; `salve demo` needs none"
    )]
    NoKubeconfig,
    /// The kubeconfig cannot be read, or is none.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(String),
    /// It names no current context, and the caller none either.
    #[error("the kubeconfig has no current context; choose one with --context: {}", listed(.known))]
    NoContext {
        /// Those that exist.
        known: Vec<String>,
    },
    /// It has no such context.
    #[error("the kubeconfig has no context {name:?}; it has {}", listed(.known))]
    UnknownContext {
        /// The one asked for.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// `--as-group` without `--as`.
    #[error("groups to be taken for need a user too: add --as")]
    GroupsWithoutUser,
    /// The credentials cannot be had.
    #[error("no credentials for the cluster: {0}")]
    Credentials(String),
    /// These credentials may not act as the ServiceAccount, or there is none.
    #[error(
        "no token of ServiceAccount {account}: {why}; asking for one takes `create` on serviceaccounts/token in its namespace"
    )]
    NoToken {
        /// Its namespace and name.
        account: String,
        /// What the API server said.
        why: String,
    },
    /// The API server refuses the credentials.
    #[error("the API server {server} refuses these credentials; they may have expired: {message}")]
    Refused {
        /// Its address.
        server: String,
        /// What it said.
        message: String,
    },
    /// Nobody answers there.
    #[error("the API server {server} cannot be reached: {why}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        why: String,
    },
    /// The two cannot agree on TLS.
    #[error(
        "the API server {server} is not trusted, or does not trust us: {why}; is this the kubeconfig of that cluster?"
    )]
    Tls {
        /// Its address.
        server: String,
        /// What happened.
        why: String,
    },
}

impl Cluster {
    /// Reaches a live cluster, and sees that it answers.
    ///
    /// # Assumptions
    /// It is called within a tokio runtime. An exec plugin may ask its questions on this terminal.
    ///
    /// # Errors
    /// What is missing or refused, and what would help.
    pub async fn connect(connection: Connection) -> Result<Self, ConnectError> {
        if connection.as_user.is_none() && !connection.as_groups.is_empty() {
            return Err(ConnectError::GroupsWithoutUser);
        }
        let (mut config, context) = configuration(&connection).await?;
        config.default_retry = false;
        // A request has its own patience; this frees a connection that nobody waits for any more.
        config.read_timeout = Some(Duration::from_secs(90));
        config.reset_reader_on_write = true;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.headers.push((
            USER_AGENT,
            HeaderValue::from_static(concat!("salve/", env!("CARGO_PKG_VERSION"))),
        ));
        if let Some(user) = connection.as_user {
            config.auth_info.impersonate = Some(user);
            config.auth_info.impersonate_groups =
                Some(connection.as_groups).filter(|groups| !groups.is_empty());
        }
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let mut bare = config.clone();
        bare.auth_info = AuthInfo::default();
        let clock = Arc::new(LiveClock::start());
        let client = ClientBuilder::try_from(config)
            .map_err(|error| unbuilt(&error))?
            .with_layer(&EgressGuard::new(Some(clock.clone())))
            .build();
        let cluster = Self::new(client, clock as Arc<dyn Clock>, context, server.clone());
        let footprint = Footprint::new(&Effect::Read(Read::GetIdentity(GetIdentity {})), vec![]);
        match crate::host::version(&Session::new(&cluster, &footprint).without_retries()).await {
            // Who may not read the version may still do all that a run needs.
            Ok(_) | Err(Error::Denied(_)) => {}
            Err(error) => return Err(unanswered(server, &error)),
        }
        match connection.service_account {
            None => Ok(cluster),
            Some((namespace, name)) => cluster.for_service_account(bare, &namespace, &name).await,
        }
    }

    /// The same cluster, for a ServiceAccount: nothing else of these credentials goes with its requests.
    async fn for_service_account(
        self,
        bare: Config,
        namespace: &str,
        name: &str,
    ) -> Result<Self, ConnectError> {
        let (context, server) = (self.context().to_owned(), self.server().to_owned());
        let account = format!("{namespace}/{name}");
        let refused = |error: Error| ConnectError::NoToken {
            account: account.clone(),
            why: error.text().to_owned(),
        };
        let tokens = Tokens::of(self, namespace, name).await.map_err(refused)?;
        let clock = Arc::new(LiveClock::start());
        let builder = ClientBuilder::try_from(bare).map_err(|error| unbuilt(&error))?;
        let client =
            builder.with_layer(&tokens).with_layer(&EgressGuard::new(Some(clock.clone()))).build();
        Ok(Self::new(client, clock as Arc<dyn Clock>, context, server))
    }
}

async fn configuration(connection: &Connection) -> Result<(Config, String), ConnectError> {
    let read = match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(error)
            if connection.kubeconfig.is_none()
                && std::env::var_os("KUBECONFIG").is_none()
                && is_absent(&error) =>
        {
            if connection.context.is_some() {
                return Err(ConnectError::NoKubeconfig);
            }
            let config = Config::incluster().map_err(|_| ConnectError::NoKubeconfig)?;
            return Ok((config, IN_CLUSTER.into()));
        }
        Err(error) => return Err(ConnectError::Kubeconfig(unread(&error))),
    };
    let known: Vec<String> =
        kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let chosen = connection
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone())
        .filter(|name| !name.is_empty());
    let Some(name) = chosen else { return Err(ConnectError::NoContext { known }) };
    if !known.contains(&name) {
        return Err(ConnectError::UnknownContext { name, known });
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| ConnectError::Kubeconfig(unread(&error)))?;
    Ok((config, name))
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(why, _) => why.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Why a kubeconfig is none. A parser's message would quote the file, tokens included.
fn unread(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(why, path) => format!("{}: {why}", path.display()),
        KubeconfigError::Parse(_) => "it is not the YAML of a kubeconfig".into(),
        KubeconfigError::LoadCertificateAuthority(why) => {
            format!("its certificate authority: {}", undecoded(why))
        }
        KubeconfigError::LoadClientCertificate(why) => {
            format!("its client certificate: {}", undecoded(why))
        }
        KubeconfigError::LoadClientKey(why) => format!("its client key: {}", undecoded(why)),
        KubeconfigError::ParseCertificates(_) => "its certificates are not PEM".into(),
        KubeconfigError::ParseClusterUrl(_) | KubeconfigError::ParseProxyUrl(_) => {
            "an address in it is no URL".into()
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("its context names a cluster {name:?} that it does not have")
        }
        KubeconfigError::MissingClusterUrl => "its cluster has no server".into(),
        _ => "something in it contradicts itself".into(),
    }
}

fn undecoded(error: &LoadDataError) -> String {
    match error {
        LoadDataError::ReadFile(why, path) => format!("{}: {why}", path.display()),
        LoadDataError::DecodeBase64(_) => "it is not base64".into(),
        LoadDataError::NoBase64DataOrFile => "there is none".into(),
    }
}

fn unbuilt(error: &kube::Error) -> ConnectError {
    let plugin =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source())
            .find_map(|e| e.downcast_ref::<AuthError>());
    match (plugin, error) {
        (Some(auth), _) | (None, kube::Error::Auth(auth)) => {
            ConnectError::Credentials(credentials(auth))
        }
        (None, kube::Error::RustlsTls(_)) => {
            ConnectError::Kubeconfig("its certificates or keys cannot be used for TLS".into())
        }
        (None, kube::Error::ProxyProtocolUnsupported { .. }) => ConnectError::Kubeconfig(
            "its proxy-url has a scheme other than http, https and socks5".into(),
        ),
        (None, other) => match sort(other, |kept| Error::Invalid(kept.to_string())) {
            How::Unsent(why) | How::Lost(why) | How::Credentials(why) => {
                ConnectError::Kubeconfig(why)
            }
            How::Refused(refusal) => ConnectError::Kubeconfig(refusal.message),
            How::Blocked(error) => ConnectError::Kubeconfig(error.text().to_owned()),
        },
    }
}

fn unanswered(server: String, error: &Error) -> ConnectError {
    let text = error.text().trim_start_matches("get /version: ");
    let why = text.trim_start_matches("the cluster cannot be reached: ").to_owned();
    if text.starts_with("no credentials") {
        return ConnectError::Credentials(
            text.trim_start_matches("no credentials for the cluster: ").to_owned(),
        );
    }
    if text.contains("(401)") {
        return ConnectError::Refused {
            server,
            message: text.rsplit(": ").next().unwrap_or_default().to_owned(),
        };
    }
    let lower = why.to_lowercase();
    if ["certificate", "tls", "handshake", "corrupt message"]
        .iter()
        .any(|word| lower.contains(word))
    {
        return ConnectError::Tls { server, why };
    }
    ConnectError::Unreachable { server, why }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    }
}
