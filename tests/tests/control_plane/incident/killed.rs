//! A run is killed at random moments, and so are its recoveries, until one of them finishes.
//!
//! `cargo xtask killed 500` kills more often and writes its report to docs/killed.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salve_core::report::Verdict;
use salve_tests::control_plane::actors::CephCsiOptions;
use salve_tests::control_plane::{eventually, fixture};

use super::environment::{Environment, TIMEOUT, guest};
use super::run_audit::{RunAudit, mutations};

/// The number of kills per control plane. The audit log is read completely for each run, so it must
/// not become too long.
const KILLS_PER_PLANE: usize = 40;

/// The number of kills in `cargo test`.
const SAMPLE: usize = 12;

/// Deletes all ReplicationSources without evidence, because only the first run finds the incident.
const CONFIGURATION: [&str; 4] =
    ["mode=all", "evidence=waived", "stabilizationWindowSeconds=1", "restoreTimeoutSeconds=0"];

#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    runs: usize,
    verdicts: BTreeMap<&'static str, usize>,
    /// The duration of a run that was not killed.
    run_time: Duration,
    most_kills: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn a_killed_run_is_recovered_and_finishes() -> Result<()> {
    let wanted = std::env::var("SALVE_KILLS")
        .map_or(Ok(SAMPLE), |kills| kills.parse())
        .context("SALVE_KILLS is not a number")?;
    let seed = std::env::var("SALVE_SEED").map_or_else(
        |_| Ok(jiff::Timestamp::now().as_millisecond() as u64 ^ u64::from(std::process::id())),
        |seed| seed.parse(),
    )?;
    println!("report: seed {seed} (SALVE_SEED)");
    let mut random = Random(seed.max(1));
    let mut tally = Tally { run_time: Duration::from_secs(15), ..Tally::default() };
    while tally.kills < wanted {
        let env = Environment::healthy(CephCsiOptions::default()).await?;
        env.fixture.start_incident().await?;
        let until = wanted.min(tally.kills + KILLS_PER_PLANE);
        while tally.kills < until {
            run(&env, &mut tally, &mut random).await.with_context(|| {
                format!("seed {seed}, run {}, after {} kills", tally.runs, tally.kills)
            })?;
        }
    }
    println!(
        "report: {} kills in {} runs, at most {} in one",
        tally.kills, tally.runs, tally.most_kills
    );
    println!("report: verdicts: {:?}", tally.verdicts);
    // The first run finds the incident. The others restart the driver without evidence, so there is
    // nothing that the host could verify.
    let cleared = ["fixed", "unverified"].iter().filter_map(|verdict| tally.verdicts.get(verdict));
    ensure!(
        cleared.sum::<usize>() * 2 > tally.runs,
        "less than half of the runs reached their end: {tally:?}"
    );
    Ok(())
}

/// Starts a run, and kills and recovers it until it finishes.
async fn run(env: &Environment, tally: &mut Tally, random: &mut Random) -> Result<()> {
    let (flux, since, before) = (env.suspend_states().await?, env.audit_position()?, files(env)?);
    tally.runs += 1;
    let mut kills = 0;
    let mut attempt = env.salve.start("run", &guest(&CONFIGURATION))?;
    let file = loop {
        let output = attempt.kill_after(random.below(tally.run_time)).await?;
        let file = files(env)?.difference(&before).next().cloned();
        match (output, file) {
            (Some(output), file) => {
                ensure!(output.code != Some(6), "internal error: {output}");
                if kills == 0 {
                    tally.run_time = output.elapsed;
                }
                break file.with_context(|| format!("no run file: {output}"))?;
            }
            (None, None) => {
                // Killed before it wrote the header, so nothing may have been sent.
                tally.kills += 1;
                let requests = env.requests_since(since)?;
                ensure!(
                    mutations(&requests).next().is_none(),
                    "it requested a change without a run file"
                );
                return Ok(());
            }
            (None, Some(file)) => {
                kills += 1;
                let path = file.display().to_string();
                attempt = env.salve.start("recover", &[&path])?;
            }
        }
    };
    tally.kills += kills;
    tally.most_kills = tally.most_kills.max(kills);

    let audit = RunAudit::new(env.requests_since(since)?, &file)?;
    audit.ensure_sound()?;
    let result = audit.result();
    *tally.verdicts.entry(result.verdict.as_str()).or_default() += 1;
    println!(
        "run {}, killed {kills} times, {} kills so far: {}",
        tally.runs,
        tally.kills,
        result.verdict.as_str()
    );
    ensure!(
        result.verdict != Verdict::ActionRequired && result.open.is_empty(),
        "nothing prevented the cleanup: {result:?}"
    );
    assert_eq!(env.suspend_states().await?, flux, "Flux was not resumed: {result:?}");
    assert_eq!(env.marked_flux_objects().await?, Vec::<String>::new(), "{result:?}");
    let doctor = env.salve_as_administrator().run("doctor", &[]).await?;
    ensure!(doctor.code == Some(0), "{doctor}");
    if matches!(result.verdict, Verdict::Fixed | Verdict::Unverified) {
        env.fixture.wait_until_bound(&fixture::PENDING_APPS).await?;
    }
    eventually("Flux has recreated what is in Git", TIMEOUT, async || {
        let sources = env.sources().await?;
        let missing: Vec<_> = fixture::APPS
            .iter()
            .filter(|(namespace, name)| !sources.contains_key(&format!("{namespace}/{name}")))
            .collect();
        ensure!(missing.is_empty(), "{missing:?} are missing");
        Ok(())
    })
    .await
}

/// Returns the run files. One that is still empty counts as missing: its run has sent nothing.
fn files(env: &Environment) -> Result<BTreeSet<PathBuf>> {
    let runs = env.salve.runs();
    if !runs.is_dir() {
        return Ok(BTreeSet::new());
    }
    let files =
        std::fs::read_dir(runs)?.map(|entry| Ok(entry?.path())).collect::<Result<BTreeSet<_>>>()?;
    Ok(files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .filter(|path| std::fs::metadata(path).is_ok_and(|file| file.len() > 0))
        .collect())
}

/// A xorshift generator: reproducible with its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, span: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % (span.as_millis() as u64).max(1))
    }
}
