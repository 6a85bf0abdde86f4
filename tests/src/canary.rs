//! Canaries: recognizable strings planted wherever a secret could be, in the fixture on the real
//! control plane and in simulated clusters. No output of the program and no file that it writes may
//! contain one.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use salve_simulator::Simulator;
use serde_json::json;

/// The prefix of every canary.
const PREFIX: &str = "canary-of-salve-";

/// Returns the nth canary.
pub fn nth(n: usize) -> String {
    format!("{PREFIX}{n:03}-{:016x}", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The resources that get canaries in a simulated cluster: everything that a run reads.
const RESOURCES: [(&str, &str); 12] = [
    ("", "namespaces"),
    ("", "pods"),
    ("", "events"),
    ("", "persistentvolumeclaims"),
    ("", "secrets"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("kustomize.toolkit.fluxcd.io", "kustomizations"),
    ("helm.toolkit.fluxcd.io", "helmreleases"),
    ("source.toolkit.fluxcd.io", "gitrepositories"),
    ("snapshot.storage.k8s.io", "volumesnapshots"),
    ("volsync.backube", "replicationsources"),
];

/// Adds two annotations with a canary to every object of `RESOURCES`, one of them the annotation
/// in which kubectl keeps the last applied configuration. Returns the number of canaries.
pub fn plant(simulator: &Simulator) -> usize {
    let mut planted = 0;
    for (group, resource) in RESOURCES {
        for object in simulator.objects(group, resource, None) {
            let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
            let (applied, token) =
                (format!("{{\"spec\": {{\"password\": \"{}\"}}}}", nth(planted)), nth(planted + 1));
            planted += 2;
            simulator.edit(group, resource, part("namespace"), part("name"), |object| {
                let annotations = &mut object["metadata"]["annotations"];
                annotations["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied);
                annotations["example.com/token"] = json!(token);
            });
        }
    }
    planted
}

/// Returns an error if `text` contains a canary: as it is, as hexadecimal digits, or as base64 in
/// any of its three alignments. `source` names the text in the error.
pub fn ensure_none_in(source: &str, text: &str) -> Result<()> {
    let hexadecimal: String = PREFIX.bytes().map(|byte| format!("{byte:02x}")).collect();
    let forms = [PREFIX.to_owned(), hexadecimal.to_uppercase(), hexadecimal]
        .into_iter()
        .chain((0..3).map(|shift| middle_of_base64(PREFIX, shift)));
    for form in forms {
        if let Some(at) = text.find(&form) {
            let found: String = text[at..].chars().take(form.len() + 24).collect();
            anyhow::bail!("{source} contains a canary: {found}");
        }
    }
    Ok(())
}

/// Checks every file below a directory with [`ensure_none_in`]. Returns the number of files.
pub fn ensure_none_in_dir(folder: &Path) -> Result<usize> {
    let mut checked = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            checked += ensure_none_in_dir(&path)?;
        } else {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            ensure_none_in(&path.display().to_string(), &String::from_utf8_lossy(&text))?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// Returns the part of a text's base64 that does not depend on the bytes before and after the text.
/// `shift` is the number of leading bytes that share a group with what comes before.
fn middle_of_base64(text: &str, shift: usize) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = text.as_bytes();
    let whole = &bytes[shift..bytes.len() - (bytes.len() - shift) % 3];
    let letter = |bits: u32| char::from(LETTERS[(bits & 63) as usize]);
    let encode = |three: &[u8]| {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        [letter(bits >> 18), letter(bits >> 12), letter(bits >> 6), letter(bits)]
    };
    whole.chunks_exact(3).flat_map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_canary_is_found() {
        let hexadecimal = "63616e6172792d6f662d73616c76652d";
        // `printf '%scanary-of-salve-000' '' | base64`, and with `x` and `xx` before it.
        let base64 = [
            "Y2FuYXJ5LW9mLXNhbHZlLTAwMA==",
            "eGNhbmFyeS1vZi1zYWx2ZS0wMDA=",
            "eHhjYW5hcnktb2Ytc2FsdmUtMDAw",
        ];
        for form in base64.into_iter().chain([hexadecimal, &hexadecimal.to_uppercase(), &nth(7)]) {
            assert!(
                ensure_none_in("a test", &format!("before {form} after")).is_err(),
                "{form} is not found"
            );
        }
        assert!(ensure_none_in("a test", "a canary in a salve").is_ok());
    }
}
