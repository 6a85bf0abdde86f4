//! The kubectl or flux command that does the same as a touch: what a person could type instead.

use crate::effect::Touch;
use crate::effect::host::LEASE;
use crate::effect::restart_deployment::Strategy;
use crate::effect::shared::FluxRef;
use crate::effect::suspend_flux::{DEADLINE, PRIOR, Prior, REASON, RUN};
use std::collections::BTreeMap;

/// The commands, in the order in which one would type them.
pub fn commands(touch: &Touch) -> Vec<String> {
    match touch {
        // Who works by hand looks whether a colleague does, too.
        Touch::AcquireLease(_) => vec![],
        Touch::ReleaseLease(r) => vec![format!("kubectl delete lease {LEASE} -n {}", r.namespace)],
        Touch::Suspend(s) => suspends(&s.targets),
        Touch::Resume(r) => vec![match r.prior {
            Prior::Absent | Prior::False => format!(
                "flux resume {} {} -n {}",
                r.target.kind.flux_argument(),
                r.target.name,
                r.target.namespace
            ),
            Prior::True => format!(
                "flux suspend {} {} -n {}",
                r.target.kind.flux_argument(),
                r.target.name,
                r.target.namespace
            ),
        }],
        Touch::Reconcile(r) => vec![format!(
            "flux reconcile {} {} -n {}{}",
            r.target.kind.flux_argument(),
            r.target.name,
            r.target.namespace,
            if r.force { " --force" } else { "" }
        )],
        Touch::Delete(d) => {
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
        Touch::Recreate(r) => r
            .set
            .iter()
            .map(|m| format!("echo {} | kubectl create -f -", quoted(&m.manifest.to_string())))
            .collect(),
        Touch::Restart(r) => vec![match r.strategy {
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
    use crate::effect::delete_replicationsources::{Delete, Frozen, Pace};
    use crate::effect::shared::ObjectRef;

    #[test]
    fn a_set_becomes_one_command_a_namespace() {
        let frozen = |ns: &str, name: &str| Frozen {
            object: ObjectRef::new(ns, name),
            uid: "u".into(),
            digest: "d".into(),
            why: String::new(),
        };
        let set = vec![frozen("media", "sonarr"), frozen("ai", "x"), frozen("media", "radarr")];
        let touch = Touch::Delete(Delete { set, pace: Pace { at_once: 1, pause: 0 } });
        assert_eq!(
            commands(&touch),
            [
                "kubectl delete replicationsource -n ai x",
                "kubectl delete replicationsource -n media sonarr radarr"
            ]
        );
    }
}
