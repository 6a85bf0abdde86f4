//! `Grants::decide` against an oracle: a second implementation, simple enough to be read in a
//! minute. They must agree on a million calls, ordinary and adversarial. Another grant must never
//! deny a call, and another document must never allow one.

mod generate;
mod reference;

use generate::{Generator, Scene};
use reference::{Decision, Usage, decide};
use salve_core::capability::{Effect, Read};
use salve_core::grants::{Grants, Layer, Permit, Tally};
use serde_json::Value;

/// Sets of documents.
const SCENES: u64 = 10_000;
/// Calls under each set.
const CALLS: usize = 100;

/// Decides as a run does: before anything is read, and again with the objects that were read.
fn product(grants: &Grants, tally: &mut Tally, effect: &Effect, objects: &[Value]) -> Decision {
    if effect.validate().is_err() {
        return Decision::Invalid;
    }
    let Ok(permit) = grants.decide(effect, tally) else {
        assert!(
            grants.decide_with_objects(effect, objects, tally, None).is_err(),
            "denied without objects, but allowed with them: {effect:?}"
        );
        return Decision::Denied;
    };
    let mut reservation = tally.reserve(&permit);
    match grants.decide_with_objects(effect, objects, tally, Some(&reservation)) {
        Err(_) => {
            // Nothing was sent.
            tally.amend(&mut reservation, &Permit::default());
            Decision::Denied
        }
        Ok(permit) => {
            tally.amend(&mut reservation, &permit);
            if permit.approval.is_some() { Decision::RequiresApproval } else { Decision::Allowed }
        }
    }
}

fn effect(call: &Value) -> Effect {
    serde_json::from_value(call.clone()).unwrap_or_else(|error| panic!("{call}: {error}"))
}

#[test]
fn product_and_oracle_agree_on_a_million_calls() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let counts: Vec<[u64; 4]> = std::thread::scope(|scope| {
        let start = |first| scope.spawn(move || compare((first..SCENES).step_by(threads as usize)));
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().expect("they agree")).collect()
    });
    let counts = [0, 1, 2, 3].map(|decision| counts.iter().map(|part| part[decision]).sum::<u64>());
    println!("invalid, denied, allowed, requires approval: {counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 1_000_000);
    assert!(
        counts.iter().all(|count| *count > 5_000),
        "too few of one decision to be meaningful: {counts:?}"
    );
}

/// Compares the decisions about all calls of these scenes. Returns how many there are of each.
fn compare(seeds: impl Iterator<Item = u64>) -> [u64; 4] {
    let mut counts = [0_u64; 4];
    for seed in seeds {
        let Scene { grants, documents, mut calls } = Generator::new(seed).scene(CALLS);
        let (mut tally, mut usage) = (Tally::default(), Usage::default());
        for (n, call) in calls.drain(..).enumerate() {
            // Every 20 calls, evidence is recorded.
            if n % 20 == 10 {
                let (effect, raw, lines) = Generator::new(seed ^ n as u64).log_page();
                let answer = effect.decode(&raw).expect("it is an answer");
                let Effect::Read(read @ Read::NextPage(_)) = &effect else { unreachable!() };
                tally.record_evidence(read, &answer);
                usage.lines.extend(lines);
            }
            let objects = Generator::new(seed.rotate_left(32) ^ n as u64).objects(&call);
            let (actual, expected) = (
                product(&grants, &mut tally, &effect(&call), &objects),
                decide(&documents, &mut usage, &call, &objects),
            );
            assert_eq!(
                actual, expected,
                "seed {seed}, call {n}: {call}\nwith {objects:?}\nunder {documents}"
            );
            counts[expected as usize] += 1;
        }
    }
    counts
}

#[test]
fn another_grant_never_denies_and_another_document_never_allows() {
    let mut changed = [0_u64; 2];
    for seed in 0..SCENES / 5 {
        let mut generator = Generator::new(seed);
        let Scene { grants, calls, .. } = generator.scene(20);
        let wider = Grants {
            layers: grants
                .layers
                .iter()
                .map(|layer| with_another_grant(layer, &mut generator))
                .collect(),
        };
        let narrower =
            Grants { layers: grants.layers.iter().cloned().chain([generator.layer().0]).collect() };
        for call in &calls {
            let effect = effect(call);
            let allowed = |grants: &Grants| grants.decide(&effect, &Tally::default()).is_ok();
            assert!(
                !allowed(&grants) || allowed(&wider),
                "another grant denied {call} (seed {seed})"
            );
            // Without any document nothing is allowed, so the first one can allow something.
            assert!(
                grants.layers.is_empty() || !allowed(&narrower) || allowed(&grants),
                "another document allowed {call} (seed {seed})"
            );
            changed[0] += u64::from(!allowed(&grants) && allowed(&wider));
            changed[1] += u64::from(allowed(&grants) && !allowed(&narrower));
        }
    }
    assert!(
        changed.iter().all(|count| *count > 100),
        "too few changed decisions to be meaningful: {changed:?}"
    );
}

/// Returns the document with another grant at a random position.
fn with_another_grant(layer: &Layer, generator: &mut Generator) -> Layer {
    let mut layer = layer.clone();
    let at = generator.below(layer.grants.len() as u64 + 1) as usize;
    layer.grants.insert(at, generator.grant().0);
    layer
}

#[test]
fn the_oracle_matches_globs() {
    for (glob, text, expected) in [
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("?b", "ab", true),
        ("?b", "b", false),
        ("[ab]x", "bx", true),
        ("[!ab]x", "bx", false),
        ("{plex,son*}", "sonarr", true),
        ("{plex,son*}", "plexx", false),
    ] {
        assert_eq!(reference::matches(glob, text), expected, "{glob} {text}");
    }
}
