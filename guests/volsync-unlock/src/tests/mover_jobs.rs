use super::*;
use crate::samples;
use salve_sdk::query_replicationsources::Health;
use serde_json::json;

fn job(name: &str, status: Value) -> Value {
    json!({"metadata": {"namespace": "media", "name": name}, "status": status})
}

#[test]
fn a_failing_job_of_the_source_is_described() {
    let source = samples::source("media/atlas", 1, Health::Stuck);
    let exceeded = json!({"failed": 3, "conditions": [
        {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
    for (name, status, expected) in [
        ("volsync-src-atlas", exceeded.clone(), Some("BackoffLimitExceeded, 3 pods failed")),
        ("volsync-kopia-src-atlas", exceeded.clone(), Some("BackoffLimitExceeded")),
        ("volsync-src-atlas", json!({"failed": 1}), Some("1 pod failed, the next one is not")),
        ("volsync-src-atlas", json!({"failed": 1, "active": 1}), Some("another one is running")),
        ("volsync-src-atlas", json!({"active": 1}), None),
        ("volsync-src-atlas", json!({}), None),
        ("volsync-dst-atlas", exceeded.clone(), None),
        ("volsync-src-other-atlas", exceeded.clone(), None),
        ("atlas", exceeded, None),
    ] {
        let jobs: Vec<MoverJob> = parse(&job(name, status.clone())).into_iter().collect();
        let found = failure(&source, &jobs);
        match expected {
            Some(expected) => {
                assert!(found.as_ref().is_some_and(|text| text.contains(expected)), "{found:?}");
            }
            None => assert_eq!(found, None, "{name} {status}"),
        }
    }
}

#[test]
fn a_job_of_another_namespace_is_not_that_of_the_source() {
    let mut other = job("volsync-src-atlas", json!({"failed": 1}));
    other["metadata"]["namespace"] = "ai".into();
    let jobs: Vec<MoverJob> = parse(&other).into_iter().collect();
    assert_eq!(failure(&samples::source("media/atlas", 1, Health::Stuck), &jobs), None);
}
