//! Credentials for the API server: its token file, the key that signs ServiceAccount tokens, and a
//! kubeconfig for each user.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// A user of the control plane. All have every permission; they exist so that the audit log can
/// distinguish them. For limited permissions, see [`super::ControlPlane::service_account`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The user at the terminal. Tests set up their fixture as this user, too.
    Administrator,
    /// kube-controller-manager and kube-scheduler.
    ControlPlane,
    /// The simulated nodes.
    Kwok,
    /// Flux's source-controller.
    SourceController,
    /// Flux's kustomize-controller.
    KustomizeController,
    /// Flux's helm-controller.
    HelmController,
    /// The controller of Ceph CSI with its sidecars.
    CephCsi,
    /// VolSync's manager.
    VolSync,
}

impl User {
    const ALL: [User; 8] = [
        User::Administrator,
        User::ControlPlane,
        User::Kwok,
        User::SourceController,
        User::KustomizeController,
        User::HelmController,
        User::CephCsi,
        User::VolSync,
    ];

    /// Returns the name in the audit log.
    pub fn name(self) -> &'static str {
        match self {
            User::Administrator => "administrator",
            User::ControlPlane => "control-plane",
            User::Kwok => "kwok",
            User::SourceController => "source-controller",
            User::KustomizeController => "kustomize-controller",
            User::HelmController => "helm-controller",
            User::CephCsi => "ceph-csi",
            User::VolSync => "volsync",
        }
    }
}

/// The DER prefix of a P-256 public key (RFC 5480): the algorithm, the curve, a string of 66 bytes.
const P256_PUBLIC_KEY: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The credential files of one control plane.
pub struct Credentials {
    folder: PathBuf,
    server: String,
}

impl Credentials {
    /// Writes keys, tokens, and kubeconfigs for an API server that will listen on `port`.
    pub fn write(folder: &Path, port: u16) -> Result<Credentials> {
        let credentials = Credentials {
            folder: folder.to_path_buf(),
            server: format!("https://127.0.0.1:{port}"),
        };
        credentials
            .write_signing_key()
            .context("failed to create the key for ServiceAccount tokens")?;
        let mut tokens = String::new();
        for user in User::ALL {
            let token = random_token()?;
            tokens.push_str(&format!("{token},{0},{0},\"system:masters\"\n", user.name()));
            credentials.write_kubeconfig(user.name(), &token)?;
        }
        fs::write(credentials.token_file(), tokens)?;
        Ok(credentials)
    }

    /// Writes a kubeconfig for a user with a token. Returns its path.
    pub fn write_kubeconfig(&self, user: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.kubeconfig", user.replace(['/', ':'], "-")));
        let document = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "control-plane", "cluster": {
                "server": self.server, "certificate-authority": self.certificate(),
            }}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": "control-plane", "context": {
                "cluster": "control-plane", "user": user,
            }}],
            "current-context": "control-plane",
        });
        fs::write(&path, serde_json::to_string_pretty(&document)?)?;
        Ok(path)
    }

    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.join(format!("{}.kubeconfig", user.name()))
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn token_file(&self) -> PathBuf {
        self.folder.join("tokens.csv")
    }

    /// Returns the directory where the API server creates its certificate, which includes the CA.
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("certificates")
    }

    pub fn certificate(&self) -> PathBuf {
        self.certificates().join("apiserver.crt")
    }

    pub fn certificate_key(&self) -> PathBuf {
        self.certificates().join("apiserver.key")
    }

    pub fn signing_key(&self) -> PathBuf {
        self.folder.join("service-accounts.key")
    }

    pub fn verifying_key(&self) -> PathBuf {
        self.folder.join("service-accounts.pub")
    }

    fn write_signing_key(&self) -> Result<()> {
        let random = SystemRandom::new();
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| anyhow::anyhow!("failed to generate random numbers"))?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random)
                .map_err(|error| anyhow::anyhow!("the new key is invalid: {error}"))?;
        let public = [&P256_PUBLIC_KEY, pair.public_key().as_ref()].concat();
        fs::write(
            self.signing_key(),
            pem::encode(&pem::Pem::new("PRIVATE KEY", private.as_ref())),
        )?;
        fs::write(self.verifying_key(), pem::encode(&pem::Pem::new("PUBLIC KEY", public)))?;
        Ok(())
    }
}

fn random_token() -> Result<String> {
    let bytes = ring::rand::generate::<[u8; 16]>(&SystemRandom::new())
        .map_err(|_| anyhow::anyhow!("failed to generate random numbers"))?
        .expose();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
