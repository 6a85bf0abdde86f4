//! Names that Kubernetes allows. They are checked before a call is decided, because they become
//! parts of paths unencoded: a namespace `apps/secrets` would otherwise be another request.

use crate::outcome::Error;

/// Checks a namespace: a DNS-1123 label.
///
/// # Errors
/// `Invalid`.
pub fn namespace(text: &str) -> Result<(), Error> {
    if is_label(text) { Ok(()) } else { Err(invalid("namespace", text)) }
}

/// Checks an object's name: a DNS-1123 subdomain of at most 253 characters.
///
/// # Errors
/// `Invalid`.
pub fn object(text: &str) -> Result<(), Error> {
    if text.len() <= 253 && text.split('.').all(is_segment) {
        Ok(())
    } else {
        Err(invalid("name", text))
    }
}

/// Checks an API group such as `helm.toolkit.fluxcd.io`. Empty is the core group.
///
/// # Errors
/// `Invalid`.
pub fn group(text: &str) -> Result<(), Error> {
    if text.is_empty() || (text.len() <= 253 && text.split('.').all(is_label)) {
        Ok(())
    } else {
        Err(invalid("API group", text))
    }
}

/// Checks a plural such as `replicationsources`. A slash would address a subresource.
///
/// # Errors
/// `Invalid`.
pub fn resource(text: &str) -> Result<(), Error> {
    if !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        Ok(())
    } else {
        Err(invalid("resource", text))
    }
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_segment(text)
}

fn is_segment(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn invalid(what: &str, text: &str) -> Error {
    let shown = crate::sanitize::sanitized(&text.chars().take(80).collect::<String>());
    Error::Invalid(format!(
        "{shown:?} is not a valid {what}: only lowercase letters, digits, and '-' are allowed \
         (DNS-1123)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_tricks_are_not_valid_names() {
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
    fn only_object_names_may_contain_dots() {
        assert!(object("rook-ceph.rbd.csi.ceph.com-ctrlplugin").is_ok());
        assert!(object(&"x".repeat(200)).is_ok(), "only labels are limited to 63 characters");
        assert!(namespace("rook.ceph").is_err());
        assert!(group("").is_ok() && group("volsync.backube").is_ok() && group("v/1").is_err());
    }
}
