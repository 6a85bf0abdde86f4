//! Words that stand wherever a secret could, in every scene of the control plane and in the simulated clusters of stories. No output of the
//! program and no file that it keeps may hold one: whoever runs the program listens for them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use salve_simulator::Simulator;
use serde_json::json;

/// How every canary begins.
const HEAD: &str = "canary-of-salve-";

/// The nth canary.
pub fn word(n: usize) -> String {
    format!("{HEAD}{n:03}-{:016x}", (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// What bears canaries in a simulated cluster: all that a run looks at.
const BEARERS: [(&str, &str); 12] = [
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

/// Has every such object of a simulated cluster bear two, in annotations: one as kubectl keeps what it applied last. How many there are then.
pub fn plant(simulator: &Simulator) -> usize {
    let mut planted = 0;
    for (group, resource) in BEARERS {
        for object in simulator.objects(group, resource, None) {
            let part = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
            let (applied, token) = (
                format!("{{\"spec\": {{\"password\": \"{}\"}}}}", word(planted)),
                word(planted + 1),
            );
            planted += 2;
            simulator.edit(group, resource, part("namespace"), part("name"), |object| {
                object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = json!(applied);
                object["metadata"]["annotations"]["example.com/token"] = json!(token);
            });
        }
    }
    planted
}

/// An error if a canary is heard in a text: as it is, as hexadecimal digits, or as base64 in any of its three alignments.
pub fn listen(what: &str, text: &str) -> Result<()> {
    let hexadecimal: String = HEAD.bytes().map(|byte| format!("{byte:02x}")).collect();
    let forms = [HEAD.to_owned(), hexadecimal.to_uppercase(), hexadecimal]
        .into_iter()
        .chain((0..3).map(|shift| middle_of_base64(HEAD, shift)));
    for form in forms {
        if let Some(at) = text.find(&form) {
            let heard: String = text[at..].chars().take(form.len() + 24).collect();
            anyhow::bail!("{what}: a canary sings: {heard}");
        }
    }
    Ok(())
}

/// The same for every file below a folder; how many there are.
pub fn listen_below(folder: &Path) -> Result<usize> {
    let mut heard = 0;
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            heard += listen_below(&path)?;
        } else {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            listen(&path.display().to_string(), &String::from_utf8_lossy(&text))?;
            heard += 1;
        }
    }
    Ok(heard)
}

/// What of a text's base64 does not depend on what stands before and behind it.
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
    fn every_form_of_a_canary_is_heard() {
        let hexadecimal = "63616e6172792d6f662d73616c76652d";
        // `printf '%scanary-of-salve-000' '' | base64`, and with `x` and `xx` before it.
        let base64 = [
            "Y2FuYXJ5LW9mLXNhbHZlLTAwMA==",
            "eGNhbmFyeS1vZi1zYWx2ZS0wMDA=",
            "eHhjYW5hcnktb2Ytc2FsdmUtMDAw",
        ];
        for form in base64.into_iter().chain([hexadecimal, &hexadecimal.to_uppercase(), &word(7)]) {
            assert!(
                listen("a test", &format!("before {form} after")).is_err(),
                "{form} would not be heard"
            );
        }
        assert!(listen("a test", "a canary in a salve").is_ok());
    }
}
