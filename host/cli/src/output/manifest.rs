//! Kubernetes objects as YAML for review: each rule on one line, the rest in block style as kubectl
//! prints it.

use super::CommandError;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use serde_saphyr::{FlowMap, FlowSeq, LitStr};

/// Renders an object as a YAML document.
pub fn yaml(object: &Value) -> Result<String, CommandError> {
    let Value::Object(map) = object else {
        return Err(CommandError::host("internal error: the object is not a map"));
    };
    serde_saphyr::to_string(&Root(map))
        .map_err(|error| CommandError::host(format!("YAML: {error}")))
}

/// The top level of an object, where short maps are on one line.
struct Root<'a>(&'a Map<String, Value>);

impl Serialize for Root<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            match (key.as_str(), value) {
                ("metadata" | "roleRef", value) => map.serialize_entry(key, &FlowMap(value))?,
                ("rules" | "subjects", Value::Array(items)) => {
                    map.serialize_entry(key, &items.iter().map(FlowMap).collect::<Vec<_>>())?
                }
                (_, value) => map.serialize_entry(key, &Nested(value))?,
            }
        }
        map.end()
    }
}

/// A nested value. Multi-line text becomes a literal block.
struct Nested<'a>(&'a Value);

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains('\n') => LitStr(text).serialize(serializer),
            Value::Array(items) if items.iter().all(is_scalar) => {
                FlowSeq(items).serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Nested)),
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("resourceRules", Value::Array(items)) => map
                            .serialize_entry(key, &items.iter().map(FlowMap).collect::<Vec<_>>())?,
                        (_, value) => map.serialize_entry(key, &Nested(value))?,
                    }
                }
                map.end()
            }
            value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                value.serialize(serializer)
            }
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn written_yaml_parses_to_the_same_object() {
        let object = json!({
            "apiVersion": "v1", "kind": "Role", "metadata": {"name": "a", "namespace": "b"},
            "rules": [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}],
            "spec": {
                "expression": "a == 'x' ||\nb == \"y: z\"",
                "list": [true, 1, null, "yes", "1.30", "# no", ""]
            },
        });
        let text = yaml(&object).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object, "{text}");
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}
