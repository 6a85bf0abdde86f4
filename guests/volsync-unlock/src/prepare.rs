//! Decides, before the first write, everything that the run will do.

use std::collections::BTreeMap;

use salve_sdk::format::join;
use salve_sdk::query_drivers::Controller;
use salve_sdk::query_replicationsources::Source;
use salve_sdk::report::Finding;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, ObjectRef};

use crate::config::{Config, Mode};
use crate::consent;
use crate::evidence::Observation;
use crate::host::query_flux::{self, FluxObject, OwnerInfo, Subject, SubjectKind};
use crate::host::query_pvcs;
use crate::host::run::{self, Level};
use crate::node_locks;
use crate::selection::{self, Reason, Recreation, Selection};
use crate::suspension::{self, SuspendedByRun, SuspensionPlan};

/// The host's limit for the subjects of one call.
const MAX_SUBJECTS: usize = 1_000;

/// What the run will do.
pub struct Plan {
    pub selection: Selection,
    pub suspensions: SuspensionPlan,
    /// Warnings about ReplicationSources that will back up a new volume.
    pub new_volumes: Vec<String>,
    /// PVCs whose deletion will complete, with consent.
    pub completing_deletions: Vec<String>,
    /// PVCs whose deletion may complete, because they could not be read.
    pub unseen: Vec<String>,
}

/// Why the run does not begin.
pub struct Blocker {
    /// One sentence.
    pub summary: String,
    /// What the user has to do.
    pub remaining: Vec<Finding>,
}

/// Decides what the run will do, or why it cannot. Makes no writes.
///
/// # Errors
/// Those of the calls, and `not-found` if the configured Flux source does not exist.
pub fn prepare(config: &Config, observation: &Observation) -> Result<Result<Plan, Blocker>, Error> {
    let mut completing: Vec<String> =
        consent::completing_deletions(&observation.pvcs, &observation.driver)
            .iter()
            .map(|pvc| pvc.object.to_string())
            .collect();
    let volumes =
        query_pvcs::list_other_volumes(&observation.namespaces, &observation.driver.name)?;
    let others = consent::other_deletions(&volumes, observation);
    completing.extend(others.completing);
    // mutant data-loss-without-consent: !completing.is_empty() ~> completing.len() > 1_000
    if !completing.is_empty() && !config.complete_pvc_deletions {
        return Ok(Err(data_loss_without_consent(completing)));
    }
    if let Some(blocker) = paused_controller(observation.driver.controller.as_ref()) {
        return Ok(Err(blocker));
    }
    let sources = observation.sources.as_deref().unwrap_or_default();
    let candidates = selection::candidates(observation, config.mode);
    let ownerships = find_ownerships(&candidates)?;
    let mut selection = selection::select(&candidates, &ownerships, config);
    if config.mode == Mode::Evidence {
        selection.skipped.extend(selection::unrelated(observation));
    }
    let suspensions = match plan_suspensions(config, &selection)? {
        Ok(suspensions) => suspensions,
        Err(conflict) => return Ok(Err(suspended_by_another_run(&conflict))),
    };
    let new_volumes = consent::new_volume_warnings(sources, &selection.selected, &observation.pvcs);
    Ok(Ok(Plan {
        selection,
        suspensions,
        new_volumes,
        completing_deletions: completing,
        unseen: others.unseen,
    }))
}

/// Returns who owns the candidates, in the same order.
pub fn find_ownerships(candidates: &[(&Source, Reason)]) -> Result<Vec<OwnerInfo>, Error> {
    let subjects: Vec<Subject> = candidates
        .iter()
        .map(|(source, _)| Subject {
            kind: SubjectKind::ReplicationSource,
            object: source.object.clone(),
        })
        .collect();
    let mut ownerships = Vec::new();
    for chunk in subjects.chunks(MAX_SUBJECTS) {
        ownerships.extend(query_flux::find_owners(chunk)?);
    }
    Ok(ownerships)
}

fn plan_suspensions(
    config: &Config,
    selection: &Selection,
) -> Result<Result<SuspensionPlan, SuspendedByRun>, Error> {
    if selection.selected.is_empty() {
        return Ok(Ok(SuspensionPlan::default()));
    }
    let owners = selection.owners();
    let mut parents: BTreeMap<FluxRef, FluxObject> = BTreeMap::new();
    loop {
        let missing = suspension::missing_parents(&owners, &parents);
        if missing.is_empty() {
            break;
        }
        for target in missing {
            parents.insert(target.clone(), query_flux::get(&target)?);
        }
    }
    let source = config.flux_source.as_ref().map(find_source).transpose()?;
    Ok(suspension::plan(&owners, &parents, source.as_ref()))
}

/// Reads the configured source, whose kind the configuration does not name.
fn find_source(name: &ObjectRef) -> Result<FluxObject, Error> {
    for kind in [FluxKind::GitRepository, FluxKind::OciRepository, FluxKind::Bucket] {
        let target = FluxRef { kind, namespace: name.namespace.clone(), name: name.name.clone() };
        match query_flux::get(&target) {
            Err(Error::NotFound(_)) => {}
            Ok(source) => return Ok(source),
            Err(error) => return Err(error),
        }
    }
    Err(Error::NotFound(format!(
        "Flux source {name} does not exist; set `fluxSource` to the source of this cluster, or to \
         an empty string for none"
    )))
}

fn data_loss_without_consent(pvcs: Vec<String>) -> Blocker {
    let (deleted, lost) = match pvcs.len() {
        1 => ("1 PVC".to_owned(), "whose volume is deleted with it"),
        many => (format!("{many} PVCs"), "whose volumes are deleted with them"),
    };
    Blocker {
        summary: format!(
            "stopped before anything was changed: clearing the locks completes the deletion of \
             {deleted}, {lost}: {}; to allow this, set completePvcDeletions=true",
            join(&pvcs, 5),
        ),
        remaining: vec![Finding::with_details(
            "PVCs that are being deleted, with reclaim policy Delete: save their data first, or \
             set completePvcDeletions=true",
            pvcs,
        )],
    }
}

fn paused_controller(controller: Option<&Controller>) -> Option<Blocker> {
    let controller = controller.filter(|controller| controller.paused)?;
    Some(Blocker {
        summary: format!(
            "stopped before anything was changed: Deployment {} is paused and cannot be restarted",
            controller.deployment
        ),
        remaining: vec![Finding::new(format!(
            "unpause Deployment {} first",
            controller.deployment
        ))],
    })
}

fn suspended_by_another_run(conflict: &SuspendedByRun) -> Blocker {
    let SuspendedByRun { target, run } = conflict;
    Blocker {
        summary: format!(
            "stopped before anything was changed: {target} is suspended by Salve run {run}"
        ),
        remaining: vec![Finding::new(format!(
            "wait for run {run} to finish, or check `salve doctor`"
        ))],
    }
}

impl Plan {
    /// Returns the deletions that the run completes, or may complete, for the report.
    pub fn deletion_findings(&self) -> Vec<Finding> {
        let completing = (!self.completing_deletions.is_empty()).then(|| {
            Finding::with_details(
                match self.completing_deletions.as_slice() {
                    [pvc] => format!(
                        "cannot be undone: the deletion of PVC {pvc} and its volume completes, as \
                         allowed by completePvcDeletions"
                    ),
                    many => format!(
                        "cannot be undone: the deletions of {} PVCs and their volumes complete, as \
                         allowed by completePvcDeletions",
                        many.len()
                    ),
                },
                &self.completing_deletions,
            )
        });
        completing.into_iter().chain(self.unseen_finding()).collect()
    }

    fn unseen_finding(&self) -> Option<Finding> {
        (!self.unseen.is_empty()).then(|| {
            Finding::with_details(
                format!(
                    "a snapshot outside the searched namespaces is locked; if its PVC is being \
                     deleted, the restart completes the deletion and destroys the volume. Check \
                     that none of these PVCs, which could not be read, is being deleted: {}",
                    join(&self.unseen, 5)
                ),
                &self.unseen,
            )
        })
    }

    /// Reports what the run will do, as far as its writes do not show that themselves.
    pub fn announce(&self, observation: &Observation) {
        if !self.completing_deletions.is_empty() {
            let pvcs = join(&self.completing_deletions, 5);
            run::note(
                Level::Warning,
                &format!(
                    "cannot be undone: the deletion of {pvcs} completes, as allowed by \
                     completePvcDeletions"
                ),
            );
        }
        if let Some(finding) = self.unseen_finding() {
            run::note(Level::Warning, &finding.text);
        }
        if let Some(finding) = consent::new_volume_finding(&self.new_volumes) {
            run::note(Level::Warning, &finding.text);
        }
        for finding in node_locks::findings(observation) {
            run::note(Level::Warning, &finding.text);
        }
        for sentence in &self.suspensions.skipped {
            run::note(Level::Info, &format!("not suspended: {sentence}"));
        }
        for skipped in &self.selection.skipped {
            run::note(
                Level::Info,
                &format!(
                    "not deleted: ReplicationSource {}: {}",
                    skipped.source.object, skipped.reason
                ),
            );
        }
        for selected in &self.selection.selected {
            // The plan itself shows who recreates the others.
            if let Recreation::Forced(owner) = &selected.recreation {
                run::note(
                    Level::Info,
                    &format!(
                        "ReplicationSource {}: {owner} is forced to recreate it",
                        selected.source.object
                    ),
                );
            }
        }
        if let Some(controller) = &observation.driver.controller {
            run::note(
                Level::Info,
                &format!(
                    "then: restart Deployment {} once, wait for its leases, resume Flux, verify",
                    controller.deployment
                ),
            );
        }
    }
}
