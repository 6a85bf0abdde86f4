//! Composes simulated clusters from independent axes, diagnoses each, and compares the diagnosis
//! with what the simulated actors hold. `cargo test` tries a sample; `cargo xtask diagnose` prints
//! the table.
//!
//! Reading order: `axes` (what differs), `compose` (how a cluster gets into its state), `truth`
//! (what is wrong with it), `words` (what a diagnosis must say), `evaluate` (the comparison).
//!
//! `SALVE_CLUSTER=N` repeats one cluster of the selected test with the full output, `SALVE_SEED`
//! draws other clusters, and `SALVE_GUEST` diagnoses with another guest than the shipped one.

mod apps;
mod axes;
mod compose;
mod evaluate;
mod installation;
mod random;
mod texts;
mod truth;
mod words;

use axes::{Composition, Family, Unreadable};
use evaluate::{Evaluation, Guests};
use std::collections::BTreeSet;

/// The share of true incidents that must be found, and that may be inconclusive, in percent.
const MIN_FOUND: usize = 99;
const MAX_INCONCLUSIVE: usize = 2;

/// How many faults are shown.
const MAX_SHOWN: usize = 12;

#[test]
fn locks_in_the_controller_are_found() {
    evaluate_family(Family::Controller);
}

#[test]
fn locks_in_a_node_plugin_are_named() {
    evaluate_family(Family::Node);
}

#[test]
fn locks_in_the_controller_and_a_node_plugin_are_told_apart() {
    evaluate_family(Family::Both);
}

#[test]
fn unfinished_backups_are_named() {
    evaluate_family(Family::Backups);
}

#[test]
fn other_problems_of_the_storage_are_named() {
    evaluate_family(Family::Storage);
}

#[test]
fn locks_of_other_drivers_and_released_locks_are_not_the_incident() {
    evaluate_family(Family::Neighbors);
}

#[test]
fn logs_that_cannot_be_read_are_no_proof_of_health() {
    evaluate_family(Family::Unreadable);
}

/// The sums over a family.
#[derive(Default)]
struct Table {
    clusters: usize,
    runs: usize,
    incidents: usize,
    found: usize,
    missed: usize,
    false_alarms: usize,
    inconclusive: usize,
    unnamed: usize,
    destructive: usize,
    false_fixed: usize,
    fixed: usize,
}

impl Table {
    fn add(&mut self, evaluation: &Evaluation) {
        self.clusters += 1;
        self.incidents += usize::from(evaluation.is_incident);
        self.found += usize::from(evaluation.is_found);
        self.inconclusive += usize::from(evaluation.is_inconclusive);
        self.fixed += usize::from(evaluation.is_fixed);
        self.missed += usize::from(!evaluation.missed.is_empty());
        self.false_alarms += usize::from(!evaluation.false_alarms.is_empty());
        self.unnamed += usize::from(!evaluation.unnamed.is_empty());
        self.destructive += evaluation.destructive.len();
        self.false_fixed += evaluation.false_fixed.len();
    }

    fn row(&self, family: Family) -> String {
        let Self { clusters, runs, incidents, found, missed, false_alarms, .. } = self;
        let Self { inconclusive, unnamed, destructive, false_fixed, fixed, .. } = self;
        format!(
            "| {} | {clusters} | {incidents} | {found} | {missed} | {false_alarms} | \
             {inconclusive} | {unnamed} | {runs} | {fixed} | {destructive} | {false_fixed} |",
            family.name()
        )
    }

    /// Returns whether the family meets its gate. `is_readable` is whether all logs can be read.
    fn is_met(&self, is_readable: bool) -> bool {
        let found = !is_readable || self.found * 100 >= self.incidents * MIN_FOUND;
        let inconclusive =
            !is_readable || self.inconclusive * 100 <= self.clusters * MAX_INCONCLUSIVE;
        found
            && inconclusive
            && self.missed == 0
            && self.false_alarms == 0
            && self.unnamed == 0
            && self.destructive == 0
            && self.false_fixed == 0
    }
}

/// Evaluates a sample of a family, prints its row of the table, and fails if it misses the gate.
fn evaluate_family(family: Family) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seed = number("SALVE_SEED").unwrap_or(1);
    let clusters = number("SALVE_CLUSTERS").unwrap_or(60);
    let runs = number("SALVE_RUNS").unwrap_or((clusters / 10).max(10));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    if let Some(cluster) = number("SALVE_CLUSTER") {
        return runtime.block_on(show(family, seed, cluster));
    }
    let (mut table, mut faults, mut seen) = (Table::default(), Vec::new(), BTreeSet::new());
    let mut guests = Guests::default();
    let mut numbers = 0..;
    while table.clusters < clusters as usize {
        let number = numbers.next().unwrap_or_default();
        let composition = axes::draw(family, seed, number);
        let identity = Composition { salt: 0, ..composition.clone() };
        if !seen.insert(format!("{identity:?}")) {
            continue;
        }
        let with_run = table.runs < runs as usize;
        table.runs += usize::from(with_run);
        let evaluation = runtime.block_on(evaluate(&mut guests, &composition, with_run));
        table.add(&evaluation);
        for fault in evaluation.faults() {
            faults.push(format!(
                "{} {number}: {fault}\n    {}",
                family.name(),
                evaluation.first_line
            ));
        }
    }
    println!("report: {}", table.row(family));
    for fault in faults.iter().take(MAX_SHOWN) {
        println!("{fault}");
    }
    assert!(
        table.is_met(family != Family::Unreadable),
        "seed {seed}: {} faults; repeat one with SALVE_CLUSTER=N",
        faults.len()
    );
}

/// Evaluates one cluster.
async fn evaluate(guests: &mut Guests, composition: &Composition, with_run: bool) -> Evaluation {
    let cluster = compose::compose(composition);
    let is_readable = composition.unreadable == Unreadable::None;
    let (mut evaluation, _) =
        evaluate::check(guests, &cluster, is_readable, composition.skew).await;
    if with_run {
        evaluate::run(guests, &cluster, composition.skew, &mut evaluation).await;
    }
    evaluation
}

/// Evaluates one cluster and prints everything about it.
async fn show(family: Family, seed: u64, number: u64) {
    let composition = axes::draw(family, seed, number);
    println!("{composition:#?}");
    let cluster = compose::compose(&composition);
    let truth = truth::Truth::of(&cluster.simulator, &cluster.installation);
    println!("held: {:#?}\ncauses: {:#?}", truth.locks, truth.causes());
    let mut guests = Guests::default();
    let is_readable = composition.unreadable == Unreadable::None;
    let (mut evaluation, report) =
        evaluate::check(&mut guests, &cluster, is_readable, composition.skew).await;
    println!("{}", serde_json::to_string_pretty(&report.diagnosis).unwrap());
    let report = evaluate::run(&mut guests, &cluster, composition.skew, &mut evaluation).await;
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    println!("{:#?}", evaluation.faults());
}
