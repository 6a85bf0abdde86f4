//! Names as Kubernetes allows them. Checked before an effect exists, because nobody encodes them into
//! paths afterwards: a namespace `apps/secrets` would otherwise become another request.

use crate::outcome::Error;

/// Checks a namespace: a DNS-1123 label.
pub fn namespace(text: &str) -> Result<(), Error> {
    if label(text) { Ok(()) } else { Err(refused("namespace", text)) }
}

/// Checks an object's name: a DNS-1123 subdomain, 253 characters in all.
pub fn object(text: &str) -> Result<(), Error> {
    if text.len() <= 253 && text.split('.').all(word) { Ok(()) } else { Err(refused("name", text)) }
}

/// Checks a group such as `helm.toolkit.fluxcd.io`; empty is the core group.
pub fn group(text: &str) -> Result<(), Error> {
    if text.is_empty() || (text.len() <= 253 && text.split('.').all(label)) {
        Ok(())
    } else {
        Err(refused("API group", text))
    }
}

/// Checks a plural such as `replicationsources`. A slash would reach a subresource.
pub fn resource(text: &str) -> Result<(), Error> {
    if !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        Ok(())
    } else {
        Err(refused("resource", text))
    }
}

fn label(text: &str) -> bool {
    text.len() <= 63 && word(text)
}

fn word(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn refused(what: &str, text: &str) -> Error {
    let shown = crate::sanitize::sanitized(&text.chars().take(80).collect::<String>());
    Error::Invalid(format!(
        "{shown:?} is no {what}: lower-case letters, digits and `-`, as Kubernetes allows them (DNS-1123)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_tricks_are_no_names() {
        for bad in [
            "",
            "..",
            "a/b",
            "a%2fb",
            "a?b",
            "A",
            "a_b",
            "-a",
            "a-",
            "a\0",
            "ä",
            "a b",
            "a#",
            &"x".repeat(64),
        ] {
            assert!(namespace(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "..", "a..b", "a/exec", ".a", "a.", "pods/x", &"x.".repeat(200)] {
            assert!(object(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "pods/exec", "Pods", "pods.apps", "."] {
            assert!(resource(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_with_dots_are_legal_for_objects_only() {
        assert!(object("rook-ceph.rbd.csi.ceph.com-ctrlplugin").is_ok());
        assert!(object(&"x".repeat(200)).is_ok(), "only labels end at 63");
        assert!(namespace("rook.ceph").is_err());
        assert!(group("").is_ok() && group("volsync.backube").is_ok() && group("v/1").is_err());
    }
}
