//! A YAML document with the line of each of its nodes.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// A document, and the line of each JSON pointer into it.
#[derive(Debug)]
pub struct Located {
    pub value: Value,
    lines: BTreeMap<String, u64>,
}

impl Located {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// The text is not valid YAML.
    pub fn read(text: &str) -> Result<Self, serde_saphyr::Error> {
        let node: Spanned<Node> = serde_saphyr::from_str_with_options(
            text,
            serde_saphyr::options! { strict_booleans: true },
        )?;
        let mut lines = BTreeMap::from([(String::new(), node.referenced.line())]);
        let value = node.value.locate(&mut String::new(), &mut lines);
        Ok(Self { value, lines })
    }

    /// Returns the part of the document at a JSON pointer.
    pub fn part(&self, pointer: &str) -> Option<Self> {
        let lines = self.lines.iter().filter_map(|(at, line)| {
            let below = at.strip_prefix(pointer).filter(|rest| rest.starts_with('/'))?;
            Some((below.to_owned(), *line))
        });
        let mut lines: BTreeMap<String, u64> = lines.collect();
        lines.insert(String::new(), self.line(pointer));
        Some(Self { value: self.value.pointer(pointer)?.clone(), lines })
    }

    /// Returns the line of a JSON pointer, or of the nearest node around it.
    pub fn line(&self, pointer: &str) -> u64 {
        let mut pointer = pointer;
        loop {
            match (self.lines.get(pointer), pointer.rsplit_once('/')) {
                (Some(line), _) => return *line,
                (None, Some((parent, _))) => pointer = parent,
                (None, None) => return 1,
            }
        }
    }
}

/// A node of a document.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl Node {
    /// Returns the plain value, and records the line of each node below it. The line of an entry is
    /// that of its key.
    fn locate(self, pointer: &mut String, lines: &mut BTreeMap<String, u64>) -> Value {
        let length = pointer.len();
        match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                let mut list = vec![];
                for (n, item) in items.into_iter().enumerate() {
                    *pointer += &format!("/{n}");
                    lines.insert(pointer.clone(), item.referenced.line());
                    list.push(item.value.locate(pointer, lines));
                    pointer.truncate(length);
                }
                Value::Array(list)
            }
            Self::Map(entries) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    *pointer += &format!("/{}", key.value.replace('~', "~0").replace('/', "~1"));
                    lines.insert(pointer.clone(), key.referenced.line());
                    map.insert(key.value, node.value.locate(pointer, lines));
                    pointer.truncate(length);
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        serde_json::Number::from_f64(value)
            .map(|number| Node::Scalar(Value::Number(number)))
            .ok_or_else(|| E::custom(format!("{value} is not a valid number")))
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = vec![];
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = vec![];
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_node_has_a_value_and_a_line() {
        let text = concat!(
            "a: 1\nb:\n- x: yes\n  y: [1.5,\n    null]\n- {k/~: \"2\"}\n",
            "# comment\nc: |\n  two\n  lines\n"
        );
        let located = Located::read(text).unwrap();
        assert_eq!(
            located.value,
            json!({
                "a": 1,
                "b": [{"x": "yes", "y": [1.5, null]}, {"k/~": "2"}],
                "c": "two\nlines\n"
            })
        );
        for (pointer, line) in [
            ("", 1),
            ("/a", 1),
            ("/b", 2),
            ("/b/0", 3),
            ("/b/0/y", 4),
            ("/b/0/y/1", 5),
            ("/b/1/k~1~0", 6),
            ("/c", 8),
            ("/c/none", 8),
        ] {
            assert_eq!(located.line(pointer), line, "{pointer}");
        }
    }
}
