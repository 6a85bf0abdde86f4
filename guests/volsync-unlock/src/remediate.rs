//! The outline of a run: evidence, then every decision that can be made before the first write,
//! then the writes, then verification. Whatever fails after the suspend step, everything suspended
//! is resumed first.

use salve_sdk::Error;
use salve_sdk::format::{count, join};
use salve_sdk::report::{Conclusion, Diagnosis, Finding, State, Verdict};

use crate::EVIDENCE_TITLE;
use crate::conclusion::{self, Before};
use crate::config::Config;
use crate::deadline::Deadline;
use crate::diagnose::diagnose;
use crate::evidence::Observation;
use crate::host::query_pods;
use crate::host::run::{self, Level};
use crate::observe;
use crate::prepare;
use crate::prevention;
use crate::problems;
use crate::selection::Selection;
use crate::similar_problems;
use crate::steps::{Execution, StepError};
use crate::verify;

/// Clears the incident, or concludes why not.
///
/// # Errors
/// That of a failed call. Everything suspended has been resumed, or the message names what has not.
pub fn remediate(config: &Config) -> Result<Conclusion, Error> {
    let deadline = Deadline::of_run();
    run::step("evidence", EVIDENCE_TITLE);
    let observation = observe::observe(config)?;
    let (diagnosis, evidence) = diagnose(&observation, config.sample_interval_ms);
    if let Some(conclusion) = conclude_without_incident(config, &observation, &diagnosis) {
        return Ok(conclusion);
    }
    let plan = match prepare::prepare(config, &observation)? {
        Ok(plan) => plan,
        Err(blocker) => {
            let mut conclusion = Conclusion::new(Verdict::NotFixed, blocker.summary);
            conclusion.evidence = conclusion::evidence(&diagnosis, false);
            conclusion.remaining = blocker.remaining;
            return Ok(conclusion);
        }
    };
    let pods = query_pods::list_pods(&observation.namespaces)?;
    let before = Before { running_pods: verify::running(&pods) };
    plan.announce(&observation);
    problems::report(&observation);

    let mut execution = Execution::new(config, &observation, &plan, deadline);
    let result = write(&mut execution).and_then(|()| {
        conclusion::conclude(&mut execution, &before, &diagnosis, &evidence)
            .map_err(StepError::from)
    });
    match result {
        Ok(conclusion) => Ok(conclusion),
        Err(error) => abort(execution, error, &diagnosis),
    }
}

fn write(execution: &mut Execution) -> Result<(), StepError> {
    execution.suspend()?;
    execution.delete()?;
    // mutant early-flux-resume: restart ~> resume()?; execution.restart
    execution.restart()?;
    // mutant resume-without-waiting: execution.wait()?; ~> if execution.restart.is_none() {
    //     execution.wait()?; }
    execution.wait()?;
    execution.resume()
}

/// Concludes a run on a cluster without the incident, unless evidence is waived. Nothing was
/// changed.
fn conclude_without_incident(
    config: &Config,
    observation: &Observation,
    diagnosis: &Diagnosis,
) -> Option<Conclusion> {
    let verdict = match diagnosis.state {
        State::Incident => return None,
        State::Healthy => Verdict::NothingToDo,
        // mutant lookalike-treated: Verdict::DifferentProblem ~> return None
        State::DifferentProblem => Verdict::DifferentProblem,
        State::Inconclusive => Verdict::Inconclusive,
    };
    let is_log_readable = !observation.log.pods.is_empty();
    if config.evidence_waived
        && is_log_readable
        && similar_problems::blocking_problem(observation).is_none()
    {
        run::note(Level::Warning, &format!("evidence is waived; observed: {}", diagnosis.summary));
        return None;
    }
    let mut conclusion = Conclusion::new(verdict, diagnosis.summary.clone());
    conclusion.evidence = conclusion::evidence(diagnosis, false);
    conclusion.remaining = diagnosis.ruled_out.clone();
    conclusion.prevention = prevention::advise(
        &Selection::default(),
        observation.sources.as_deref().unwrap_or_default(),
        false,
    );
    Some(conclusion)
}

/// Resumes everything suspended, and reports why the run ended early.
fn abort(
    mut execution: Execution,
    error: StepError,
    diagnosis: &Diagnosis,
) -> Result<Conclusion, Error> {
    let (step, suspended) = (execution.step, execution.suspensions.remaining());
    let problems = execution.suspensions.resume_all();
    let resumed = match (suspended, problems.is_empty()) {
        (0, _) => "nothing is suspended by this run".to_owned(),
        (_, true) => "everything this run suspended has been resumed".to_owned(),
        (_, false) => {
            let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
            texts.join("; ")
        }
    };
    let progress = progress(&execution);
    match error {
        StepError::CallFailed(error) => {
            // An error has no findings.
            let later: Vec<String> =
                execution.recreated_later().into_iter().map(|finding| finding.text).collect();
            let later =
                if later.is_empty() { String::new() } else { format!("; {}", join(later, 5)) };
            Err(error
                .map_message(|text| format!("step {step}: {text} ({progress}; {resumed}{later})")))
        }
        StepError::NotFixed(summary) => {
            let summary = format!("{summary} ({progress})");
            let mut conclusion = Conclusion::new(Verdict::NotFixed, summary);
            conclusion.evidence = conclusion::evidence(diagnosis, false);
            conclusion.remaining = std::mem::take(&mut execution.remaining);
            conclusion.remaining.extend(problems);
            // mutant unforced-release-not-named:
            //     conclusion.remaining.extend(execution.recreated_later()); ~>
            conclusion.remaining.extend(execution.recreated_later());
            conclusion.remaining.push(Finding::new(resumed));
            Ok(conclusion)
        }
    }
}

fn progress(execution: &Execution) -> String {
    let restarted = if execution.is_restarted {
        "the driver was restarted"
    } else {
        "the driver was not restarted"
    };
    match execution.deleted.len() {
        0 => format!("nothing was deleted, {restarted}"),
        deleted => format!("{} deleted, {restarted}", count(deleted, "ReplicationSource")),
    }
}
