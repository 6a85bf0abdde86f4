//! SHA-256 of bytes, and of JSON independently of its key order.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Returns the SHA-256 in lowercase hex.
pub fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the SHA-256 of the canonical JSON of a value: sorted keys, no spaces.
pub fn of_json(value: &Value) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    of_bytes(text.as_bytes())
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write!(out, "{}:", Value::String(key.clone()))
                    .expect("writing to a String cannot fail");
                canonical(&map[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            write!(out, "{value}").expect("writing to a String cannot fail");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        write!(out, "{b:02x}").expect("writing to a String cannot fail");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_digest_depends_on_content_and_not_on_key_order() {
        assert_eq!(
            of_json(&json!({"a": 1, "b": [true, null]})),
            of_json(&json!({"b": [true, null], "a": 1}))
        );
        assert_ne!(of_json(&json!({"a": 1})), of_json(&json!({"a": 2})));
        assert_ne!(of_json(&json!(["a,b"])), of_json(&json!(["a", "b"])));
    }
}
