//! Everything that is settled before the first touch: consent, owners, parents, the restart's target.

use std::collections::BTreeMap;

use salve_sdk::query_drivers::Controller;
use salve_sdk::report::Finding;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::wording::{count, row};
use salve_sdk::{Error, ObjectRef};

use crate::config::Config;
use crate::consent;
use crate::evidence::Seen;
use crate::freeze::{self, Plan as Freezing};
use crate::host::query_flux::{self, FluxObject, Subject, SubjectKind};
use crate::host::run::{self, Level};
use crate::selection::{self, Return, Selection};

/// The most subjects that one question about owners may name.
const MOST_SUBJECTS: usize = 1_000;

/// What will be done.
pub struct Plan {
    /// The frozen set.
    pub selection: Selection,
    /// What is suspended for it.
    pub freezing: Freezing,
    /// Sources about to back up a freshly made volume.
    pub fresh: Vec<String>,
    /// Claims whose deletion will complete, as consented.
    pub completing: Vec<String>,
}

/// Why nothing is begun.
pub struct Obstacle {
    /// In one sentence.
    pub summary: String,
    /// What a person has to see.
    pub left: Vec<Finding>,
}

/// Settles what will be done, or why not. Looks only.
///
/// # Errors
/// What the cluster refuses, and `not-found` where the configured source is not there.
pub fn prepare(config: &Config, seen: &Seen) -> Result<Result<Plan, Obstacle>, Error> {
    let completing: Vec<String> = consent::completing(&seen.pvcs, &seen.driver)
        .iter()
        .map(|pvc| pvc.object.to_string())
        .collect();
    // mutant data-loss-without-consent: !completing.is_empty() ~> completing.len() > 1_000
    if !completing.is_empty() && !config.complete_deletions {
        return Ok(Err(without_consent(completing)));
    }
    if let Some(obstacle) = paused(seen.driver.controller.as_ref()) {
        return Ok(Err(obstacle));
    }
    let sources = seen.sources.as_deref().unwrap_or_default();
    let candidates = selection::candidates(sources, config.mode);
    let subjects: Vec<Subject> = candidates
        .iter()
        .map(|(source, _)| Subject {
            kind: SubjectKind::ReplicationSource,
            object: source.object.clone(),
        })
        .collect();
    let mut ownerships = Vec::new();
    for some in subjects.chunks(MOST_SUBJECTS) {
        ownerships.extend(query_flux::find_owners(some)?);
    }
    let selection = selection::choose(&candidates, &ownerships, config);
    let freezing = match freezing(config, &selection)? {
        Ok(freezing) => freezing,
        Err(held) => return Ok(Err(held_by_another(&held))),
    };
    let fresh = consent::fresh_volumes(sources, &selection.chosen, &seen.pvcs);
    Ok(Ok(Plan { selection, freezing, fresh, completing }))
}

fn freezing(
    config: &Config,
    selection: &Selection,
) -> Result<Result<Freezing, freeze::Held>, Error> {
    if selection.chosen.is_empty() {
        return Ok(Ok(Freezing::default()));
    }
    let owners = selection.owners();
    let mut parents: BTreeMap<FluxRef, FluxObject> = BTreeMap::new();
    loop {
        let unknown = freeze::unknown_parents(&owners, &parents);
        if unknown.is_empty() {
            break;
        }
        for target in unknown {
            parents.insert(target.clone(), query_flux::get(&target)?);
        }
    }
    let source = config.source.as_ref().map(find_source).transpose()?;
    Ok(freeze::plan(&owners, &parents, source.as_ref()))
}

/// The configured source, whichever of the kinds it is.
fn find_source(name: &ObjectRef) -> Result<FluxObject, Error> {
    for kind in [FluxKind::GitRepository, FluxKind::OciRepository, FluxKind::Bucket] {
        let target = FluxRef { kind, namespace: name.namespace.clone(), name: name.name.clone() };
        match query_flux::get(&target) {
            Err(Error::NotFound(_)) => {}
            Ok(found) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    Err(Error::NotFound(format!(
        "there is no Flux source {name}; set `source` to the one of this cluster, or to nothing"
    )))
}

fn without_consent(pvcs: Vec<String>) -> Obstacle {
    Obstacle {
        summary: format!(
            "stopped before anything was changed: clearing the jam completes the deletion of {} whose volume is \
             deleted with it: {}; consent with complete-deletions=true",
            count(pvcs.len(), "claim"),
            row(&pvcs, 5),
        ),
        left: vec![Finding::with(
            "claims that are being deleted, on volumes with reclaim policy Delete: save their data first, or consent",
            pvcs,
        )],
    }
}

fn paused(controller: Option<&Controller>) -> Option<Obstacle> {
    let controller = controller.filter(|controller| controller.paused)?;
    Some(Obstacle {
        summary: format!(
            "stopped before anything was changed: Deployment {} is paused and cannot be restarted",
            controller.deployment
        ),
        left: vec![Finding::new(format!("unpause Deployment {} first", controller.deployment))],
    })
}

fn held_by_another(held: &freeze::Held) -> Obstacle {
    Obstacle {
        summary: format!(
            "stopped before anything was changed: {} is held by run {} of Salve",
            held.target, held.run
        ),
        left: vec![Finding::new(format!(
            "wait for run {} to end, or see what `salve doctor` says of it",
            held.run
        ))],
    }
}

impl Plan {
    /// Tells the person what is coming, as far as no touch will show it.
    pub fn announce(&self, seen: &Seen) {
        let warn = |text: &str| run::note(Level::Warning, text);
        if !self.completing.is_empty() {
            warn(&format!(
                "cannot be undone: the deletion of {} completes, as consented",
                row(&self.completing, 5)
            ));
        }
        if let Some(finding) = consent::fresh_finding(&self.fresh) {
            warn(&finding.text);
        }
        for line in &self.freezing.left_alone {
            run::note(Level::Info, &format!("left alone: {line}"));
        }
        for spared in &self.selection.spared {
            run::note(
                Level::Info,
                &format!("left alone: ReplicationSource {}: {}", spared.source.object, spared.why),
            );
        }
        for chosen in &self.selection.chosen {
            // Who brings back the others, a plan says by itself.
            if let Return::Forced(owner) = &chosen.back {
                run::note(
                    Level::Info,
                    &format!(
                        "ReplicationSource {}: {owner} is forced to re-create it",
                        chosen.source.object
                    ),
                );
            }
        }
        if let Some(controller) = &seen.driver.controller {
            run::note(
                Level::Info,
                &format!(
                    "then: one restart of Deployment {}, its leases, the way back for what was frozen, verification",
                    controller.deployment
                ),
            );
        }
    }
}
