//! Tables, which kubectl requests to print columns.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::columns::columns;
use super::read::partial_metadata;
use crate::kind::Kind;
use crate::object::{text, time};

/// Returns `items` as a Table.
pub fn render(kind: &'static Kind, items: &[Arc<Value>], metadata: Value, now: Timestamp) -> Value {
    let columns = columns(kind);
    let mut definitions = vec![definition("Name", "name")];
    definitions.extend(columns.iter().map(|column| definition(column.name, "")));
    definitions.push(definition("Age", ""));
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let mut cells = vec![Value::from(text(item, "/metadata/name"))];
            cells.extend(columns.iter().map(|column| Value::from((column.value)(item))));
            let age = time(item, "/metadata/creationTimestamp")
                .map_or("<unknown>".to_owned(), |then| age(now, then));
            cells.push(age.into());
            json!({"cells": cells, "object": partial_metadata(item)})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

fn definition(name: &str, format: &str) -> Value {
    json!({"name": name, "type": "string", "format": format, "description": name, "priority": 0})
}

/// Formats an age like kubectl.
fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
