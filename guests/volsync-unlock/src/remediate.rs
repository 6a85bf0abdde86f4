//! The outline of a run: evidence, then everything that can be settled before the first touch, then the
//! touches, then the end. Whatever happens after the freeze, what was frozen is given back first.

use salve_sdk::Error;
use salve_sdk::report::{Conclusion, Diagnosis, Finding, State, Verdict};

use crate::config::Config;
use crate::deadline::Deadline;
use crate::diagnose::judge;
use crate::ending::{self, Before};
use crate::evidence::Seen;
use crate::host::query_pods;
use crate::host::run::{self, Level};
use crate::lookalikes;
use crate::observe;
use crate::prepare;
use crate::prevention;
use crate::selection::Selection;
use crate::verify;
use crate::work::{Stop, Work};

/// Clears the incident, or says why not.
///
/// # Errors
/// A call that failed. What was frozen has been given back, or the sentence says that it was not.
pub fn remediate(config: &Config) -> Result<Conclusion, Error> {
    let deadline = Deadline::of_run();
    run::step("evidence", "is it this incident?");
    let seen = observe::look(config)?;
    let (diagnosis, evidence) = judge(&seen, config.sample_gap);
    if let Some(end) = turn_back(config, &seen, &diagnosis) {
        return Ok(end);
    }
    let plan = match prepare::prepare(config, &seen)? {
        Ok(plan) => plan,
        Err(obstacle) => {
            let mut conclusion = Conclusion::new(Verdict::NotFixed, obstacle.summary);
            conclusion.evidence = ending::told(&diagnosis, false);
            conclusion.remaining = obstacle.left;
            return Ok(conclusion);
        }
    };
    let before = Before { running: verify::running(&query_pods::list_pods(&seen.namespaces)?) };
    plan.announce(&seen);

    let mut work = Work::new(config, &seen, &plan, deadline);
    let done = write(&mut work).and_then(|()| {
        ending::conclude(&mut work, &before, &diagnosis, &evidence).map_err(Stop::from)
    });
    match done {
        Ok(conclusion) => Ok(conclusion),
        Err(stop) => give_up(work, stop, &diagnosis),
    }
}

fn write(work: &mut Work) -> Result<(), Stop> {
    work.freeze()?;
    work.delete()?;
    // mutant early-flux-resume: restart ~> resume()?; work.restart
    work.restart()?;
    // mutant resume-without-waiting: work.wait()?; ~> if work.restart.is_none() { work.wait()?; }
    work.wait()?;
    work.resume()
}

/// The end of a run that has no business here. Nothing was touched.
fn turn_back(config: &Config, seen: &Seen, diagnosis: &Diagnosis) -> Option<Conclusion> {
    let verdict = match diagnosis.state {
        State::Incident => return None,
        State::Healthy => Verdict::NothingToDo,
        // mutant lookalike-treated: Verdict::DifferentProblem ~> return None
        State::DifferentProblem => Verdict::DifferentProblem,
    };
    if config.evidence_waived && lookalikes::forbids(seen).is_none() {
        run::note(
            Level::Warning,
            &format!("evidence is waived; what was seen: {}", diagnosis.summary),
        );
        return None;
    }
    let mut conclusion = Conclusion::new(verdict, diagnosis.summary.clone());
    conclusion.evidence = ending::told(diagnosis, false);
    conclusion.remaining = diagnosis.ruled_out.clone();
    conclusion.prevention = prevention::advise(
        &Selection::default(),
        seen.sources.as_deref().unwrap_or_default(),
        false,
    );
    Some(conclusion)
}

fn give_up(mut work: Work, stop: Stop, diagnosis: &Diagnosis) -> Result<Conclusion, Error> {
    let (step, held) = (work.step, work.frozen.open());
    let obstacles = work.frozen.release();
    let released = match (held, obstacles.is_empty()) {
        (0, _) => "nothing is suspended by this run".to_owned(),
        (_, true) => "what it froze has been resumed".to_owned(),
        (_, false) => {
            obstacles.iter().map(|finding| finding.text.clone()).collect::<Vec<_>>().join("; ")
        }
    };
    let done = so_far(&work);
    match stop {
        Stop::Error(error) => {
            Err(error.map(|text| format!("step {step}: {text} ({done}; {released})")))
        }
        Stop::NotFixed(summary) => {
            let mut conclusion = Conclusion::new(Verdict::NotFixed, format!("{summary} ({done})"));
            conclusion.evidence = ending::told(diagnosis, false);
            conclusion.remaining = std::mem::take(&mut work.remaining);
            conclusion.remaining.extend(obstacles);
            conclusion.remaining.extend(work.staying_away());
            conclusion.remaining.push(Finding::new(released));
            Ok(conclusion)
        }
    }
}

fn so_far(work: &Work) -> String {
    let deleted = work.deleted.len();
    let restarted =
        if work.restarted { "the driver was restarted" } else { "the driver was not restarted" };
    match deleted {
        0 => format!("nothing was deleted, {restarted}"),
        some => {
            format!("{} deleted, {restarted}", salve_sdk::wording::count(some, "ReplicationSource"))
        }
    }
}
