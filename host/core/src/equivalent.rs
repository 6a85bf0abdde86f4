//! The kubectl or flux command that does the same as a touch: what a person could type instead.

use crate::effect::Write;
use crate::effect::host::LEASE;
use crate::effect::restart_deployment::Strategy;
use crate::effect::shared::FluxRef;
use crate::effect::suspend_flux::{DEADLINE, PRIOR, PreviousSuspend, REASON, RUN};
use std::collections::BTreeMap;

/// The commands, in the order in which one would type them.
pub fn commands(write: &Write) -> Vec<String> {
    match write {
        // Who works by hand looks whether a colleague does, too.
        Write::AcquireLease(_) => vec![],
        Write::ReleaseLease(r) => vec![format!("kubectl delete lease {LEASE} -n {}", r.namespace)],
        Write::Suspend(s) => suspends(&s.targets),
        Write::Resume(r) => vec![match r.previous {
            PreviousSuspend::Absent | PreviousSuspend::False => format!(
                "flux resume {} {} -n {}",
                r.target.kind.flux_argument(),
                r.target.name,
                r.target.namespace
            ),
            PreviousSuspend::True => format!(
                "flux suspend {} {} -n {}",
                r.target.kind.flux_argument(),
                r.target.name,
                r.target.namespace
            ),
        }],
        Write::Reconcile(r) => vec![format!(
            "flux reconcile {} {} -n {}{}",
            r.target.kind.flux_argument(),
            r.target.name,
            r.target.namespace,
            if r.force { " --force" } else { "" }
        )],
        Write::Delete(d) => {
            let mut by_namespace: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for frozen in &d.set {
                by_namespace.entry(&frozen.object.namespace).or_default().push(&frozen.object.name);
            }
            by_namespace
                .into_iter()
                .map(|(ns, names)| {
                    format!("kubectl delete replicationsource -n {ns} {}", names.join(" "))
                })
                .collect()
        }
        Write::Recreate(r) => r
            .set
            .iter()
            .map(|m| format!("echo {} | kubectl create -f -", quoted(&m.manifest.to_string())))
            .collect(),
        Write::Restart(r) => vec![match r.strategy {
            Strategy::Annotate => format!(
                "kubectl rollout restart -n {} deployment/{}",
                r.target.namespace, r.target.name
            ),
            Strategy::ReplacePods => {
                format!("kubectl delete pod -n {} -l app={}", r.target.namespace, r.target.name)
            }
        }],
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One command a kind and namespace, where they stand side by side: parents stay first.
fn suspends(targets: &[FluxRef]) -> Vec<String> {
    let together = targets.chunk_by(|a, b| (a.kind, &a.namespace) == (b.kind, &b.namespace));
    together
        .map(|some| {
            let names: Vec<&str> = some.iter().map(|target| target.name.as_str()).collect();
            format!(
                "flux suspend {} {} -n {}",
                some[0].kind.flux_argument(),
                names.join(" "),
                some[0].namespace
            )
        })
        .collect()
}

/// The command that takes a run's mark off a Flux object.
pub fn unmark(target: &FluxRef) -> String {
    let marks = [RUN, REASON, DEADLINE, PRIOR].map(|key| format!("{key}-")).join(" ");
    format!(
        "kubectl annotate {} {} -n {} {marks}",
        target.kind.plural(),
        target.name,
        target.namespace
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::delete_replicationsources::{Delete, DeletionTarget, Pacing};
    use crate::effect::shared::ObjectRef;

    #[test]
    fn a_set_becomes_one_command_a_namespace() {
        let frozen = |ns: &str, name: &str| DeletionTarget {
            object: ObjectRef::new(ns, name),
            uid: "u".into(),
            digest: "d".into(),
            reason: String::new(),
        };
        let set = vec![frozen("media", "sonarr"), frozen("ai", "x"), frozen("media", "radarr")];
        let write = Write::Delete(Delete { set, pacing: Pacing { batch_size: 1, interval_ms: 0 } });
        assert_eq!(
            commands(&write),
            [
                "kubectl delete replicationsource -n ai x",
                "kubectl delete replicationsource -n media sonarr radarr"
            ]
        );
    }
}
