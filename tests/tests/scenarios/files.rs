//! Every built-in scenario, with what Salve should find and do in it.

use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::{FinishedRun, Frontend, PreparedRun};
use salve_run::Mode;
use salve_simulator::{Expected, Incident, Scenario, Simulator, matches_pattern};
use serde_json::Value;
use std::collections::BTreeMap;

/// Guests, by name and configuration: each is compiled once.
#[derive(Default)]
struct Guests(BTreeMap<(String, Vec<String>), PreparedRun>);

impl Guests {
    async fn of(&mut self, scenario: &Scenario) -> &PreparedRun {
        let config: Vec<String> =
            scenario.configuration().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let key = (scenario.guest().to_owned(), config.clone());
        if !self.0.contains_key(&key) {
            let options = GuestOptions { config, ..GuestOptions::default() };
            let guest = ResolvedGuest::resolve(scenario.guest(), &options).unwrap();
            self.0.insert(key.clone(), PreparedRun::prepare(guest, &options).await.unwrap());
        }
        &self.0[&key]
    }
}

/// Returns what differs from what is expected.
fn differences(
    expected: &Expected,
    finished: &FinishedRun,
    result: &str,
    headline: &str,
    simulator: &Simulator,
) -> Vec<String> {
    let mut found = Vec::new();
    if expected.result.as_deref().is_some_and(|expected| expected != result) {
        found.push(format!("result: expected {:?}, found {result:?}", expected.result));
    }
    let code = finished.result.exit_code();
    if expected.exit_code.is_some_and(|expected| expected != code) {
        found.push(format!("exit code: expected {:?}, found {code}", expected.exit_code));
    }
    for text in expected.headline.iter().filter(|text| !headline.contains(*text)) {
        found.push(format!("headline: {text:?} is missing in {headline:?}"));
    }
    let report = serde_json::to_string_pretty(&finished.report).unwrap();
    for text in expected.report.iter().filter(|text| !report.contains(*text)) {
        found.push(format!("report: {text:?} is missing in {report}"));
    }
    let writes: Vec<String> =
        simulator.mutations().iter().map(salve_simulator::Exchange::describe).collect();
    let sent = |pattern: &&String| writes.iter().any(|write| matches_pattern(pattern, write));
    for pattern in expected.written.iter().filter(|pattern| !sent(pattern)) {
        found.push(format!("written: {pattern:?} is missing in {writes:#?}"));
    }
    for pattern in expected.not_written.iter().filter(sent) {
        found.push(format!("not written: {pattern:?} was sent: {writes:#?}"));
    }
    found
}

/// Returns the result and the first line.
fn first_line(mode: Mode, finished: &FinishedRun) -> (String, String) {
    let report = serde_json::to_value(&finished.report).unwrap();
    let text = |pointer: &str| {
        report.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    match mode {
        Mode::Diagnosis => (text("/diagnosis/state"), text("/diagnosis/summary")),
        Mode::Plan | Mode::Live | Mode::Replay => (text("/verdict"), text("/summary")),
    }
}

/// Prints one line per command. `SALVE_SCENARIO=NAME` selects one scenario.
#[tokio::test]
async fn every_scenario_has_its_expected_results() {
    let selected = std::env::var("SALVE_SCENARIO").ok();
    let mut guests = Guests::default();
    let mut failed = Vec::new();
    let is_selected =
        |incident: &Incident| selected.as_ref().is_none_or(|name| incident.name() == name);
    for incident in Incident::ALL.into_iter().filter(is_selected) {
        let scenario = Scenario::built_in(incident);
        let expect = scenario.expect();
        let commands = [
            ("check", Mode::Diagnosis, &expect.check),
            ("plan", Mode::Plan, &expect.plan),
            ("run", Mode::Live, &expect.run),
        ];
        assert!(commands.iter().any(|(_, _, expected)| expected.is_some()), "{incident}");
        for (command, mode, expected) in commands {
            let Some(expected) = expected else { continue };
            let simulator = Simulator::of(&scenario).unwrap();
            let session = ClusterSession::simulated(simulator.clone()).await.unwrap();
            let runs = tempfile::tempdir().unwrap();
            let folder = (mode == Mode::Live).then(|| runs.path());
            let prepared = guests.of(&scenario).await;
            let finished = prepared.run(mode, &session, folder, Frontend::none()).await.unwrap();
            let (result, headline) = first_line(mode, &finished);
            let found = differences(expected, &finished, &result, &headline, &simulator);
            let status = if found.is_empty() { "ok" } else { "FAILED" };
            println!("{status:6} {incident} {command}: {result}: {headline}");
            if !found.is_empty() {
                failed.push(format!("{incident} {command}:\n  {}", found.join("\n  ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_scenario_has_the_name_of_its_file_and_a_description() {
    for incident in Incident::ALL {
        let scenario = Scenario::built_in(incident);
        assert_eq!(scenario.name(), incident.name());
        assert!(scenario.description().ends_with('.'), "{incident}: {}", scenario.description());
    }
}
