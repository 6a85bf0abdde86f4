//! The last step: watching until the end holds, and the conclusion with its proof.

use salve_sdk::Error;
use salve_sdk::query_pvcs::Pvc;
use salve_sdk::query_replicationsources::{Health, Source};
use salve_sdk::report::{Conclusion, Diagnosis, Figure, Finding, Verdict};
use salve_sdk::wording::{count, row, span};

use crate::consent;
use crate::evidence::{Evidence, ownerless};
use crate::host::{query_pods, query_pvcs, query_replicationsources, run};
use crate::prevention;
use crate::staging;
use crate::verify;
use crate::watch::Watch;
use crate::work::{Restart, Work};

/// The slowest and the quickest pace of the watch.
const PACE: (u64, u64) = (2_000, 10_000);

/// What the watch ended with.
#[derive(Default)]
struct DeletionOutcome {
    pvcs: Vec<Pvc>,
    sources: Vec<Source>,
    proof: Vec<u64>,
    settled: bool,
}

/// Figures from before the first touch.
pub struct Before {
    /// Pods that ran.
    pub running: usize,
}

/// Watches until the post-condition has held for the settle time, and concludes.
pub fn conclude(
    work: &mut Work,
    before: &Before,
    diagnosis: &Diagnosis,
    evidence: &Evidence,
) -> Result<Conclusion, Error> {
    work.step = "verify";
    run::step(
        "verify",
        &format!("no lock for {}, claims bound, backups back", span(work.config.settle)),
    );
    let Some(mut restart) = work.restart.take() else {
        return Ok(Conclusion::new(Verdict::NotFixed, "the driver was not restarted"));
    };
    let end = watch(work, &mut restart)?;
    let pods = query_pods::list_pods(&work.seen.namespaces)?;
    let destinations = query_replicationsources::list_destinations(&work.seen.namespaces)?;
    let recovery = verify::recovery(&end.pvcs, &work.seen.driver);
    let missing: Vec<Finding> = staging::missing(&work.expected(), &end.sources)
        .iter()
        .map(|chosen| {
            let owner =
                chosen.owner.as_ref().map(|owner| owner.target.to_string()).unwrap_or_default();
            Finding::new(format!("{} has not come back: look at {owner}", chosen.source.object))
        })
        .collect();

    let mut conclusion =
        Conclusion::new(Verdict::NotFixed, sentence(work, &restart, &recovery, missing.len()));
    if end.settled {
        conclusion.verdict = Verdict::Fixed;
        conclusion.proof = end.proof;
    }
    conclusion.figures = vec![
        Figure::new(
            "locked claims",
            number(evidence.locked.len() + evidence.behind.len()),
            number(recovery.stuck.len()),
        ),
        Figure::new(
            "lock keys",
            number(work.seen.log.sightings.0.len()),
            number(restart.log.sightings.0.len()),
        ),
        Figure::new(
            "orphans",
            orphans(work.seen.sources.as_deref().unwrap_or_default()),
            orphans(&end.sources),
        ),
        Figure::new("pods running", number(before.running), number(verify::running(&pods))),
    ];
    conclusion.evidence = told(diagnosis, work.config.evidence_waived && !evidence.suffices());
    conclusion.remaining = std::mem::take(&mut work.remaining);
    let waiting = recovery.stuck.iter().chain(&recovery.unexplained).chain(&recovery.explained);
    conclusion
        .remaining
        .extend(waiting.map(|pvc| Finding::new(verify::remedy(pvc, &destinations))));
    conclusion.remaining.extend(missing);
    conclusion.remaining.extend(work.staying_away());
    conclusion.remaining.extend(verify::held_up(&pods));
    conclusion.remaining.extend(leaks(work));
    conclusion.remaining.extend(consent::fresh_finding(&work.plan.fresh));
    conclusion.remaining.extend(work.plan.freezing.left_alone.iter().map(Finding::new));
    if work.frozen.open() == 0 {
        conclusion.remaining.push(Finding::new("nothing is suspended that was not before"));
    }
    let slow = work.seen.driver.ceph.as_ref().is_some_and(|ceph| ceph.status == "HEALTH_WARN");
    conclusion.prevention = prevention::advise(&work.plan.selection, &end.sources, slow);
    Ok(conclusion)
}

/// What led here, and whether it was asked for at all.
pub fn told(diagnosis: &Diagnosis, waived: bool) -> Vec<Finding> {
    let mut evidence = diagnosis.evidence_for.clone();
    if waived {
        evidence.insert(
            0,
            Finding::new(format!("evidence was waived; what was seen: {}", diagnosis.summary)),
        );
    }
    evidence.extend(diagnosis.evidence_against.iter().cloned());
    evidence
}

fn watch(work: &Work, restart: &mut Restart) -> Result<DeletionOutcome, Error> {
    let config = work.config;
    let expected = work.expected();
    let bound = work.deadline.within(config.recovery + config.settle);
    let pause = (config.settle / 10).clamp(PACE.0, PACE.1);
    let mut holds_since = None;
    loop {
        let reading = restart.watch.read(&mut restart.log)?;
        let mut end = look(work)?;
        let now = run::now();
        let holds = reading.whole
            && restart.is_clean()
            && verify::recovery(&end.pvcs, &work.seen.driver).is_complete()
            && staging::missing(&expected, &end.sources).is_empty();
        // A lock after the restart, or a controller that did not come back: waiting longer mends neither.
        if !restart.is_clean() {
            return Ok(end);
        }
        holds_since = if holds { holds_since.or(Some(now)) } else { None };
        if holds_since.is_some_and(|since| now.saturating_sub(since) >= config.settle) {
            if let Some(proof) = prove(work, restart)? {
                end.proof = proof;
                end.settled = true;
                return Ok(end);
            }
            holds_since = None;
        }
        if now >= bound {
            return Ok(end);
        }
        run::sleep(pause.min(bound - now));
    }
}

fn look(work: &Work) -> Result<DeletionOutcome, Error> {
    Ok(DeletionOutcome {
        pvcs: query_pvcs::list_pvcs(&work.seen.namespaces)?,
        sources: query_replicationsources::list_sources(&work.seen.namespaces)?,
        ..DeletionOutcome::default()
    })
}

/// One more look for the record: the whole log since the restart, and the claims. None where it shows otherwise.
fn prove(work: &Work, restart: &mut Restart) -> Result<Option<Vec<u64>>, Error> {
    let fresh = Watch::open(&restart.controller, restart.restarted.at)?;
    let reading = fresh.read(&mut restart.log)?;
    if reading.lines > 0 || !reading.whole {
        return Ok(None);
    }
    let mut proof = reading.last_entry;
    // The pages before the last say that there is more, and so prove nothing alone.
    proof.drain(..proof.len().saturating_sub(1));
    let pvcs = query_pvcs::list_pvcs(&work.seen.namespaces)?;
    proof.push(run::last_entry());
    Ok(verify::recovery(&pvcs, &work.seen.driver).is_complete().then_some(proof))
}

fn sentence(work: &Work, restart: &Restart, recovery: &verify::Recovery, missing: usize) -> String {
    let deployment = &restart.controller.deployment;
    if let Some(what) = &restart.waiting_for {
        return format!(
            "Deployment {deployment} was restarted but is not through: it waits for {what}"
        );
    }
    let keys: Vec<String> = restart.log.sightings.0.keys().map(ToString::to_string).collect();
    if !keys.is_empty() {
        return format!(
            "locks returned after the restart ({}): Ceph or the network is the cause; do not restart again",
            row(&keys, 2)
        );
    }
    if !recovery.stuck.is_empty() {
        let stuck = count(recovery.stuck.len(), "claim");
        return format!(
            "no lock is logged since the restart, but the driver has not served {stuck} yet"
        );
    }
    if !recovery.unexplained.is_empty() {
        let waiting = count(recovery.unexplained.len(), "claim");
        return format!(
            "no lock is logged since the restart, but {waiting} still Pending, and no event says why"
        );
    }
    if missing > 0 {
        return format!(
            "the locks are gone, but {} did not come back",
            count(missing, "ReplicationSource")
        );
    }
    format!(
        "no lock line for {} since {deployment} was restarted, no claim is locked, {} deleted",
        span(work.config.settle),
        count(work.deleted.len(), "ReplicationSource")
    )
}

fn leaks(work: &Work) -> Option<Finding> {
    let keys = ownerless(work.seen);
    if keys.is_empty() {
        return None;
    }
    Some(Finding::with(
        format!(
            "{} named after no claim or snapshot of the listed namespaces: where nobody owns them, the driver may have \
             leaked an image",
            count(keys.len(), "lock key")
        ),
        keys.iter().map(ToString::to_string),
    ))
}

fn orphans(sources: &[Source]) -> u64 {
    number(sources.iter().filter(|source| source.health == Health::Orphan).count())
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
