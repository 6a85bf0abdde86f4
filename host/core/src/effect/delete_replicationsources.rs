//! `delete-replicationsources`: deletes ReplicationSources of a frozen set; and, for `undo` alone, makes deleted ones anew.

use super::{Target, Validate, shared::ObjectRef};
use crate::outcome::Error;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Deletes the set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delete {
    /// What was chosen, as it was when it was chosen.
    pub set: Vec<DeletionTarget>,
    /// How fast.
    pub pacing: Pacing,
}

/// One object as it was when it was chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeletionTarget {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// Of its `spec`.
    pub digest: String,
    /// Why it was chosen, in the guest's words.
    #[serde(default)]
    pub reason: String,
}

/// How fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pacing {
    /// So many at once.
    pub batch_size: u32,
    /// So many milliseconds between two groups.
    pub interval_ms: u32,
}

/// How it ended for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionOutcome {
    /// Deleted by us.
    Deleted,
    /// Gone before we came.
    AlreadyGone,
    /// Another object bears its name. Left alone.
    Replaced,
    /// Its spec is another one. Left alone.
    Changed,
    /// The cluster refused, or it was not tried.
    Rejected,
    /// No answer came, and what became of it could not be read: it may be gone.
    Unknown,
}

/// How it ended for one object, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deletion {
    /// Its names.
    pub object: ObjectRef,
    /// Its uid.
    pub uid: String,
    /// How it ended.
    pub outcome: DeletionOutcome,
    /// Why.
    pub message: Option<String>,
}

/// Makes deleted ReplicationSources anew. No guest can ask for this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recreate {
    /// What is made.
    pub set: Vec<Manifest>,
}

/// One object as it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its names.
    pub object: ObjectRef,
    /// The whole of it.
    pub manifest: Value,
}

/// How it ended for one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CreationOutcome {
    /// Made by us.
    Created,
    /// An object bears its name. Left alone.
    Occupied,
    /// The cluster refused or did not answer.
    Rejected,
}

/// How it ended for one object, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Creation {
    /// Its names.
    pub object: ObjectRef,
    /// How it ended.
    pub outcome: CreationOutcome,
    /// Why.
    pub message: Option<String>,
}

/// The largest manifest that is made anew, in bytes of JSON.
const LARGEST: usize = 256 << 10;

impl Manifest {
    /// What may be made anew of a saved manifest: names, labels, annotations and spec. Nothing of it that would act by itself passes:
    /// no owners, no finalizers, no status; the file may be a stranger's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of(saved: &Value) -> Result<Self, String> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text(saved, "apiVersion"), text(saved, "kind"));
        let version_is_plain = version
            .strip_prefix("volsync.backube/")
            .is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric()));
        if kind != "ReplicationSource" || !version_is_plain {
            return Err("it is no ReplicationSource".into());
        }
        let object =
            ObjectRef::new(text(&saved["metadata"], "namespace"), text(&saved["metadata"], "name"));
        object.check().map_err(|e| e.text().to_owned())?;
        let spec = saved["spec"].as_object().ok_or("it has no spec")?;
        let mut metadata = Map::from_iter([
            ("name".into(), object.name.clone().into()),
            ("namespace".into(), object.namespace.clone().into()),
        ]);
        for key in ["labels", "annotations"] {
            let words: Map<_, _> = saved["metadata"][key]
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(_, v)| v.is_string())
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if !words.is_empty() {
                metadata.insert(key.into(), words.into());
            }
        }
        let manifest = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        if manifest.to_string().len() > LARGEST {
            return Err(format!("it is larger than {} KiB", LARGEST >> 10));
        }
        Ok(Self { object, manifest })
    }
}

impl Validate for Recreate {
    fn targets(&self) -> Vec<Target> {
        self.set.iter().map(|m| m.object.target()).collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.set.is_empty() || self.set.len() > 10_000 {
            return Err(Error::Invalid(format!("a set of {}: 1 to 10000", self.set.len())));
        }
        let mut seen = std::collections::HashSet::new();
        for one in &self.set {
            // It is its own clean form: whoever made this value otherwise is refused.
            if Manifest::of(&one.manifest).as_ref() != Ok(one) {
                return Err(Error::Invalid(format!("{} is not as it may be made", one.object)));
            }
            if !seen.insert(&one.object) {
                return Err(Error::Invalid(format!("{} stands in the set twice", one.object)));
            }
        }
        Ok(())
    }
}
impl Validate for Delete {
    fn targets(&self) -> Vec<Target> {
        self.set.iter().map(|f| f.object.target()).collect()
    }
    fn check(&self) -> Result<(), Error> {
        if self.set.is_empty() || self.set.len() > 10_000 {
            return Err(Error::Invalid(format!("a set of {}: 1 to 10000", self.set.len())));
        }
        if !(1..=64).contains(&self.pacing.batch_size) || self.pacing.interval_ms > 600_000 {
            return Err(Error::Invalid(
                "a pace of 1 to 64 at once, with at most 10 minutes between".into(),
            ));
        }
        let mut seen = std::collections::HashSet::new();
        for frozen in &self.set {
            frozen.object.check()?;
            if frozen.reason.len() > 1024 {
                return Err(Error::Invalid(format!(
                    "{} with a reason of more than 1024 bytes",
                    frozen.object
                )));
            }
            if frozen.uid.is_empty() || frozen.digest.is_empty() {
                return Err(Error::Invalid(format!(
                    "{} without uid or digest: nothing is deleted by name alone",
                    frozen.object
                )));
            }
            if !seen.insert(&frozen.object) {
                return Err(Error::Invalid(format!("{} stands in the set twice", frozen.object)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn saved() -> Value {
        json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
            "metadata": {"name": "sonarr", "namespace": "media", "uid": "u", "resourceVersion": "1", "labels": {"app": "sonarr"},
                "finalizers": ["x/y"], "ownerReferences": [{"kind": "ConfigMap"}]},
            "spec": {"sourcePVC": "sonarr"}, "status": {"lastSyncTime": "then"}})
    }

    #[test]
    fn only_names_labels_annotations_and_spec_come_back() {
        let made = Manifest::of(&saved()).unwrap();
        assert_eq!(
            made.manifest,
            json!({"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationSource",
                "metadata": {"name": "sonarr", "namespace": "media", "labels": {"app": "sonarr"}}, "spec": {"sourcePVC": "sonarr"}})
        );
        assert!(Recreate { set: vec![made] }.check().is_ok());
    }

    #[test]
    fn what_a_stranger_wrote_is_no_other_object() {
        let wrong = |change: fn(&mut Value)| {
            let mut object = saved();
            change(&mut object);
            Manifest::of(&object).is_err()
        };
        assert!(wrong(|o| o["kind"] = "Secret".into()));
        assert!(wrong(|o| o["apiVersion"] = "v1".into()));
        assert!(wrong(|o| o["apiVersion"] = "volsync.backube/../../v1".into()));
        assert!(wrong(|o| o["metadata"]["namespace"] = "media/../kube-system".into()));
        assert!(wrong(|o| o["metadata"]["name"] = "..".into()));
        assert!(wrong(|o| o["spec"] = "none".into()));
        assert!(wrong(|o| o["spec"]["x"] = "y".repeat(LARGEST).into()));
        let mut forged = Manifest::of(&saved()).unwrap();
        forged.manifest["metadata"]["finalizers"] = json!(["x/y"]);
        assert!(Recreate { set: vec![forged] }.check().is_err());
        let mut other = Manifest::of(&saved()).unwrap();
        other.object.namespace = "ai".into();
        assert!(
            Recreate { set: vec![other] }.check().is_err(),
            "grants are decided on the names that it bears"
        );
    }
}
