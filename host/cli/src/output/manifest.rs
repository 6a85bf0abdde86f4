//! Kubernetes objects as YAML that a person can read in a review: rules on one line each, the rest as kubectl writes it.

use super::Failed;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};
use serde_saphyr::{FlowMap, FlowSeq, LitStr};

/// One object as a YAML document.
pub fn yaml(object: &Value) -> Result<String, Failed> {
    let Value::Object(map) = object else { return Err(Failed::host("an object that is no map")) };
    serde_saphyr::to_string(&Whole(map)).map_err(|error| Failed::host(format!("YAML: {error}")))
}

/// The top of an object, where short maps stand on one line.
struct Whole<'a>(&'a Map<String, Value>);

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            match (key.as_str(), value) {
                ("metadata" | "roleRef", value) => map.serialize_entry(key, &FlowMap(value))?,
                ("rules" | "subjects", Value::Array(items)) => {
                    map.serialize_entry(key, &items.iter().map(FlowMap).collect::<Vec<_>>())?
                }
                (_, value) => map.serialize_entry(key, &Part(value))?,
            }
        }
        map.end()
    }
}

/// What stands below: text of several lines keeps its lines.
struct Part<'a>(&'a Value);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::String(text) if text.contains('\n') => LitStr(text).serialize(serializer),
            Value::Array(items) if items.iter().all(is_scalar) => {
                FlowSeq(items).serialize(serializer)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Part)),
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("resourceRules", Value::Array(items)) => map
                            .serialize_entry(key, &items.iter().map(FlowMap).collect::<Vec<_>>())?,
                        (_, value) => map.serialize_entry(key, &Part(value))?,
                    }
                }
                map.end()
            }
            other => other.serialize(serializer),
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
    fn what_is_written_reads_back_as_the_same_object() {
        let object = json!({
            "apiVersion": "v1", "kind": "Role", "metadata": {"name": "a", "namespace": "b"},
            "rules": [{"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}],
            "spec": {"expression": "a == 'x' ||\nb == \"y: z\"", "list": [true, 1, null, "yes", "1.30", "# no", ""]},
        });
        let text = yaml(&object).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), object, "{text}");
        assert_eq!(text.lines().count(), 10, "{text}");
    }
}
