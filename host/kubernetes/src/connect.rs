//! Connects to a live cluster as kubectl does: kubeconfig, context, exec plugins, impersonation, or
//! the in-cluster service account.

use crate::clock::LiveClock;
use crate::cluster::Cluster;
use crate::egress::EgressGuard;
use crate::failure::{Failure, FailureKind, NO_RESPONSE, classify_error, credentials};
use crate::send::Session;
use crate::service_account::TokenSource;
use http::header::{HeaderValue, USER_AGENT};
use kube::Config;
use kube::client::{AuthError, ClientBuilder};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};
use salve_core::capability::host::GetIdentity;
use salve_core::capability::{Effect, Read};
use salve_core::footprint::Footprint;
use salve_core::outcome::Error;
use salve_run::Clock;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The context name of a connection that uses the in-cluster service account.
pub const IN_CLUSTER: &str = "in-cluster";

/// How to connect to a cluster. Fields that are not set are resolved as kubectl does.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The only kubeconfig to read.
    pub kubeconfig: Option<PathBuf>,
    /// The context to use instead of the current one.
    pub context: Option<String>,
    /// The user to impersonate.
    pub as_user: Option<String>,
    /// The ServiceAccount (namespace, name) to act as, with short-lived tokens that the
    /// kubeconfig's credentials request.
    pub service_account: Option<(String, String)>,
}

/// Why connecting failed. Never includes the output of a plugin or the page of a proxy: they can
/// contain secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is neither a kubeconfig nor an in-cluster service account.
    #[error(
        "no kubeconfig found (tried $KUBECONFIG, ~/.kube/config, and the in-cluster service \
        account)"
    )]
    NoKubeconfig,
    /// The kubeconfig cannot be read or is invalid.
    #[error("invalid kubeconfig: {0}")]
    Kubeconfig(String),
    /// No context was requested, and the kubeconfig has no current one.
    #[error("the kubeconfig has no current context; it has {}", join_contexts(.known))]
    NoContext {
        /// The contexts in the kubeconfig.
        known: Vec<String>,
    },
    /// The requested context does not exist.
    #[error("the kubeconfig has no context {name:?}; it has {}", join_contexts(.known))]
    UnknownContext {
        /// The requested context.
        name: String,
        /// The contexts in the kubeconfig.
        known: Vec<String>,
    },
    /// The credentials could not be obtained.
    #[error("cannot get credentials for the cluster: {0}")]
    Credentials(String),
    /// The credentials may not request a token for the ServiceAccount, or it does not exist.
    #[error(
        "cannot create a token for ServiceAccount {account}: {why} (requires `create` on \
        serviceaccounts/token in its namespace)"
    )]
    NoToken {
        /// `namespace/name`.
        account: String,
        why: String,
    },
    /// The API server rejected the credentials with HTTP status 401.
    #[error("API server {server} rejected the credentials, which may have expired: {message}")]
    Unauthorized { server: String, message: String },
    /// The API server did not respond.
    #[error("cannot reach API server {server}: {why}")]
    Unreachable { server: String, why: String },
    /// The TLS handshake failed.
    #[error(
        "TLS handshake with API server {server} failed: {why}; check that the kubeconfig belongs \
        to this cluster"
    )]
    Tls { server: String, why: String },
}

impl Cluster {
    /// Connects to a live cluster and checks that its API server responds.
    ///
    /// # Assumptions
    /// Called within a tokio runtime. An exec plugin may prompt on this terminal.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(connection: Connection) -> Result<Self, ConnectError> {
        let (mut config, context) = configuration(&connection).await?;
        config.default_retry = false;
        // Each request has its own timeout; this one frees abandoned connections.
        config.read_timeout = Some(Duration::from_secs(90));
        config.reset_reader_on_write = true;
        config.connect_timeout = Some(Duration::from_secs(10));
        config.headers.push((
            USER_AGENT,
            HeaderValue::from_static(concat!("salve/", env!("CARGO_PKG_VERSION"))),
        ));
        if let Some(user) = connection.as_user {
            config.auth_info.impersonate = Some(user);
            // Groups in the kubeconfig belong to another user.
            config.auth_info.impersonate_groups = None;
        }
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let mut anonymous = config.clone();
        anonymous.auth_info = AuthInfo::default();
        let clock = Arc::new(LiveClock::start());
        let client = ClientBuilder::try_from(config)
            .map_err(|error| client_error(&error))?
            .with_layer(&EgressGuard::new(Some(clock.clone())))
            .build();
        let cluster = Self::new(client, clock as Arc<dyn Clock>, None, context, server.clone());
        let footprint = Footprint::new(&Effect::Read(Read::GetIdentity(GetIdentity {})), vec![]);
        match crate::capability::host::version(
            &Session::new(&cluster, &footprint).without_retries(),
        )
        .await
        {
            Ok(_) => {}
            // A credential that may not read the version may still be allowed all that a run needs.
            Err(failure) if failure.code() == Some(403) => {}
            Err(failure) => return Err(connect_error(server, failure)),
        }
        match connection.service_account {
            None => Ok(cluster),
            Some((namespace, name)) => {
                cluster.for_service_account(anonymous, &namespace, &name).await
            }
        }
    }

    /// Returns the same cluster with a ServiceAccount's credentials. `anonymous` is the
    /// configuration without credentials, so that nothing but the token accompanies a request.
    async fn for_service_account(
        self,
        anonymous: Config,
        namespace: &str,
        name: &str,
    ) -> Result<Self, ConnectError> {
        let (context, server) = (self.context().to_owned(), self.server().to_owned());
        let account = format!("{namespace}/{name}");
        let no_token = |error: Error| ConnectError::NoToken {
            account: account.clone(),
            why: error.text().to_owned(),
        };
        let tokens = TokenSource::request(self, namespace, name).await.map_err(no_token)?;
        let clock = Arc::new(LiveClock::start());
        let builder = ClientBuilder::try_from(anonymous).map_err(|error| client_error(&error))?;
        let client =
            builder.with_layer(&tokens).with_layer(&EgressGuard::new(Some(clock.clone()))).build();
        Ok(Self::new(client, clock as Arc<dyn Clock>, Some(tokens), context, server))
    }
}

/// Returns the client configuration and the name of the context.
async fn configuration(connection: &Connection) -> Result<(Config, String), ConnectError> {
    let result = match &connection.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let kubeconfig = match result {
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
        Err(error) => return Err(ConnectError::Kubeconfig(describe_kubeconfig_error(&error))),
    };
    let known: Vec<String> =
        kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    let name = connection
        .context
        .clone()
        .or_else(|| kubeconfig.current_context.clone())
        .filter(|name| !name.is_empty());
    let Some(name) = name else { return Err(ConnectError::NoContext { known }) };
    if !known.contains(&name) {
        return Err(ConnectError::UnknownContext { name, known });
    }
    let options = KubeConfigOptions { context: Some(name.clone()), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| ConnectError::Kubeconfig(describe_kubeconfig_error(&error)))?;
    Ok((config, name))
}

#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of kube, which may grow")]
fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(why, _) => why.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Describes a kubeconfig error. The parser's own message is not used, because it quotes the file
/// including its tokens.
#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of kube, which may grow")]
fn describe_kubeconfig_error(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(why, path) => format!("{}: {why}", path.display()),
        KubeconfigError::Parse(_) => "not valid kubeconfig YAML".into(),
        KubeconfigError::LoadCertificateAuthority(why) => {
            format!("certificate authority: {}", describe_load_error(why))
        }
        KubeconfigError::LoadClientCertificate(why) => {
            format!("client certificate: {}", describe_load_error(why))
        }
        KubeconfigError::LoadClientKey(why) => {
            format!("client key: {}", describe_load_error(why))
        }
        KubeconfigError::ParseCertificates(_) => "certificates are not valid PEM".into(),
        KubeconfigError::ParseClusterUrl(_) | KubeconfigError::ParseProxyUrl(_) => {
            "an address is not a valid URL".into()
        }
        KubeconfigError::LoadClusterOfContext(name) => {
            format!("the context refers to cluster {name:?}, which is not defined")
        }
        KubeconfigError::MissingClusterUrl => "the cluster has no server address".into(),
        _ => "inconsistent settings".into(),
    }
}

fn describe_load_error(error: &LoadDataError) -> String {
    match error {
        LoadDataError::ReadFile(why, path) => format!("{}: {why}", path.display()),
        LoadDataError::DecodeBase64(_) => "not valid base64".into(),
        LoadDataError::NoBase64DataOrFile => "missing".into(),
    }
}

/// Converts an error from building the client.
fn client_error(error: &kube::Error) -> ConnectError {
    let plugin =
        std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |e| e.source())
            .find_map(|e| e.downcast_ref::<AuthError>());
    match (plugin, error) {
        (Some(auth), _) | (None, kube::Error::Auth(auth)) => {
            ConnectError::Credentials(credentials(auth))
        }
        (None, kube::Error::RustlsTls(_)) => {
            ConnectError::Kubeconfig("certificates or keys cannot be used for TLS".into())
        }
        (None, kube::Error::ProxyProtocolUnsupported { .. }) => {
            ConnectError::Kubeconfig("the scheme of proxy-url is not http, https, or socks5".into())
        }
        (None, other) => match classify_error(other, |blocked| Error::Invalid(blocked.to_string()))
        {
            FailureKind::Absent(why)
            | FailureKind::NotSent(why)
            | FailureKind::InDoubt(why)
            | FailureKind::Credentials(why) => ConnectError::Kubeconfig(why),
            FailureKind::Rejected(rejection) => ConnectError::Kubeconfig(rejection.message),
            FailureKind::Blocked(error) => ConnectError::Kubeconfig(error.text().to_owned()),
        },
    }
}

/// Converts the failure of the first request.
fn connect_error(server: String, failure: Failure) -> ConnectError {
    let why = match failure.kind {
        FailureKind::Credentials(why) => return ConnectError::Credentials(why),
        FailureKind::Rejected(rejection) if rejection.code == 401 => {
            return ConnectError::Unauthorized { server, message: rejection.message };
        }
        FailureKind::Absent(why) | FailureKind::NotSent(why) => why,
        FailureKind::InDoubt(why) => format!("{NO_RESPONSE}: {why}"),
        FailureKind::Rejected(rejection) => rejection.message,
        FailureKind::Blocked(error) => error.text().to_owned(),
    };
    if is_tls_error(&why) {
        ConnectError::Tls { server, why }
    } else {
        ConnectError::Unreachable { server, why }
    }
}

/// Recognizes a TLS error by the text of rustls: hyper nests its errors in `io::Error`s of any
/// kind. This decides only which hint the user gets.
fn is_tls_error(why: &str) -> bool {
    let why = why.to_lowercase();
    ["certificate", "tls", "handshake", "corrupt message"].iter().any(|word| why.contains(word))
}

/// Quotes and joins context names.
fn join_contexts(names: &[String]) -> String {
    if names.is_empty() {
        "no contexts".into()
    } else {
        names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    }
}
