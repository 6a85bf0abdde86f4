//! The process is killed at random moments, its recoveries too, and whoever takes the run up last comes to its end.
//!
//! `cargo xtask killed 500` kills more often, and leaves its report in docs/killed.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use salve_core::report::Verdict;
use salve_tests::control_plane::actors::Manner;
use salve_tests::control_plane::{eventually, scene};

use crate::account::{Account, mutations};
use crate::fixture::{Stage, TIMEOUT, guest};

/// So many kills in one control plane: its audit log is read anew for each run.
const ON_ONE: usize = 40;

/// Everything that is there, each time: the incident stands in the first run only.
const KEYS: [&str; 4] = ["mode=all", "evidence=waived", "settle=1", "restore-wait=0"];

/// What came of it.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    runs: usize,
    verdicts: BTreeMap<&'static str, usize>,
    /// How long a run took that was not killed.
    span: Duration,
    longest: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(control_plane), ignore = "needs the control plane: cargo xtask control-plane")]
async fn whenever_it_is_killed_a_run_is_taken_up_and_comes_to_its_end() -> Result<()> {
    let wanted = std::env::var("SALVE_KILLS")
        .map_or(Ok(ON_ONE), |kills| kills.parse())
        .context("SALVE_KILLS is no number")?;
    let seed = std::env::var("SALVE_SEED").map_or_else(
        |_| Ok(jiff::Timestamp::now().as_millisecond() as u64 ^ u64::from(std::process::id())),
        |seed| seed.parse(),
    )?;
    println!("report: seed {seed} (SALVE_SEED)");
    let mut random = Random(seed.max(1));
    let mut tally = Tally { span: Duration::from_secs(15), ..Tally::default() };
    while tally.kills < wanted {
        let stage = Stage::healthy(Manner::default()).await?;
        stage.scene.strike().await?;
        let until = wanted.min(tally.kills + ON_ONE);
        while tally.kills < until {
            run(&stage, &mut tally, &mut random).await.with_context(|| {
                format!("seed {seed}, run {}, after {} kills", tally.runs, tally.kills)
            })?;
        }
    }
    println!(
        "report: {} kills in {} runs, at most {} in one",
        tally.kills, tally.runs, tally.longest
    );
    println!("report: how the runs came out: {:?}", tally.verdicts);
    ensure!(
        tally.verdicts.get("fixed").is_some_and(|fixed| fixed * 2 > tally.runs),
        "hardly a run was finished: {tally:?}"
    );
    Ok(())
}

/// One run, killed and taken up until it ends.
async fn run(stage: &Stage, tally: &mut Tally, random: &mut Random) -> Result<()> {
    let (flux, since, before) = (stage.suspensions().await?, stage.now()?, files(stage)?);
    tally.runs += 1;
    let mut kills = 0;
    let mut attempt = stage.salve.start("run", &guest(&KEYS))?;
    let file = loop {
        // The first half of a run is where everything is sent; its beginning is drawn as often as its middle.
        let ended = attempt.live(random.below(tally.span)).await?;
        let file = files(stage)?.difference(&before).next().cloned();
        match (ended, file) {
            (Some(told), file) => {
                ensure!(told.code != Some(6), "it broke: {told}");
                if kills == 0 {
                    tally.span = told.took;
                }
                break file.with_context(|| format!("it left no file: {told}"))?;
            }
            (None, None) => {
                // It died before its header stood, so nothing may have been sent.
                tally.kills += 1;
                let asked = stage.asked_since(since)?;
                ensure!(
                    mutations(&asked).next().is_none(),
                    "it changed something and wrote nothing"
                );
                return Ok(());
            }
            (None, Some(file)) => {
                kills += 1;
                let path = file.display().to_string();
                attempt = stage.salve.start("recover", &[&path])?;
            }
        }
    };
    tally.kills += kills;
    tally.longest = tally.longest.max(kills);

    let account = Account::of(stage.asked_since(since)?, &file)?;
    account.is_sound()?;
    let closing = account.closing();
    *tally.verdicts.entry(closing.verdict.word()).or_default() += 1;
    println!(
        "run {}, killed {kills} times, {} kills so far: {}",
        tally.runs,
        tally.kills,
        closing.verdict.word()
    );
    ensure!(
        closing.verdict != Verdict::ActionRequired && closing.is_whole(),
        "nothing stood in its way: {closing:?}"
    );
    assert_eq!(stage.suspensions().await?, flux, "Flux is as it was: {closing:?}");
    assert_eq!(stage.marked().await?, Vec::<String>::new(), "{closing:?}");
    let doctor = stage.administrator().tell("doctor", &[]).await?;
    ensure!(doctor.code == Some(0), "{doctor}");
    if closing.verdict == Verdict::Fixed {
        stage.scene.until_bound(&scene::STUCK).await?;
    }
    eventually("Flux brings back what Git declares", TIMEOUT, async || {
        let sources = stage.sources().await?;
        let missing: Vec<_> = scene::APPS
            .iter()
            .filter(|(namespace, name)| !sources.contains_key(&format!("{namespace}/{name}")))
            .collect();
        ensure!(missing.is_empty(), "{missing:?} are missing");
        Ok(())
    })
    .await
}

fn files(stage: &Stage) -> Result<BTreeSet<PathBuf>> {
    let runs = stage.salve.runs();
    if !runs.is_dir() {
        return Ok(BTreeSet::new());
    }
    let files =
        std::fs::read_dir(runs)?.map(|entry| Ok(entry?.path())).collect::<Result<BTreeSet<_>>>()?;
    Ok(files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect())
}

/// Xorshift: moments that a seed brings back.
struct Random(u64);

impl Random {
    fn below(&mut self, span: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(self.0 % (span.as_millis() as u64).max(1))
    }
}
