//! Two judges that were written apart: `Grants::decide`, and one so simple that it can be read in a minute. They have to agree on a
//! million calls, ordinary and adversarial; and neither a grant more nor a document more may turn them the wrong way.

mod generate;
mod reference;

use generate::{Generator, Scene};
use reference::{Used, Word, judge};
use salve_core::effect::Effect;
use salve_core::grants::{Grants, Layer, Tally};
use serde_json::Value;

/// Documents, and calls under each.
const SCENES: u64 = 10_000;
const CALLS: usize = 100;

/// As the door asks: before anything is read, and once more with what was met.
fn word(grants: &Grants, tally: &mut Tally, effect: &Effect, objects: &[Value]) -> Word {
    if effect.check().is_err() {
        return Word::Invalid;
    }
    if grants.decide(effect, tally).is_err() {
        assert!(
            grants.decide_with_objects(effect, objects, tally).is_err(),
            "what is denied unread is allowed read: {effect:?}"
        );
        return Word::Denied;
    }
    match grants.decide_with_objects(effect, objects, tally) {
        Err(_) => Word::Denied,
        Ok(permit) => {
            tally.charge(&permit);
            if permit.approval.is_some() { Word::Asked } else { Word::Allowed }
        }
    }
}

fn effect(call: &Value) -> Effect {
    serde_json::from_value(call.clone()).unwrap_or_else(|error| panic!("{call}: {error}"))
}

#[test]
fn both_judges_agree_on_a_million_calls() {
    let mut words = [0_u64; 4];
    for seed in 0..SCENES {
        let Scene { grants, documents, mut calls } = Generator::new(seed).scene(CALLS);
        let (mut tally, mut used) = (Tally::default(), Used::default());
        for (n, call) in calls.drain(..).enumerate() {
            // Some of the way, evidence comes in.
            if n % 20 == 10 {
                let found = Generator::new(seed ^ n as u64).outcome();
                tally.record_evidence(&found.0, &found.1);
                used.lines.extend(found.2);
            }
            let objects = Generator::new(seed.rotate_left(32) ^ n as u64).objects(&call);
            let (ours, theirs) = (
                word(&grants, &mut tally, &effect(&call), &objects),
                judge(&documents, &mut used, &call, &objects),
            );
            assert_eq!(
                ours, theirs,
                "seed {seed}, call {n}: {call}\nof {objects:?}\nunder {documents}"
            );
            words[theirs as usize] += 1;
        }
    }
    println!("invalid, denied, allowed, asked: {words:?} of {}", words.iter().sum::<u64>());
    assert_eq!(words.iter().sum::<u64>(), 1_000_000);
    assert!(
        words.iter().all(|count| *count > 5_000),
        "too few of a kind to mean anything: {words:?}"
    );
}

#[test]
fn a_grant_more_never_denies_and_a_document_more_never_allows() {
    let mut turned = [0_u64; 2];
    for seed in 0..SCENES / 5 {
        let mut generator = Generator::new(seed);
        let Scene { grants, calls, .. } = generator.scene(20);
        let more = Grants {
            layers: grants.layers.iter().map(|layer| with(layer, &mut generator)).collect(),
        };
        let narrower =
            Grants { layers: grants.layers.iter().cloned().chain([generator.layer().0]).collect() };
        for call in &calls {
            let effect = effect(call);
            let allowed = |grants: &Grants| grants.decide(&effect, &Tally::default()).is_ok();
            assert!(
                !allowed(&grants) || allowed(&more),
                "a grant more denied {call} (seed {seed})"
            );
            // Where there is no document at all, one more can only be the first.
            assert!(
                grants.layers.is_empty() || !allowed(&narrower) || allowed(&grants),
                "a document more allowed {call} (seed {seed})"
            );
            turned[0] += u64::from(!allowed(&grants) && allowed(&more));
            turned[1] += u64::from(allowed(&grants) && !allowed(&narrower));
        }
    }
    assert!(turned.iter().all(|count| *count > 100), "neither would have been noticed: {turned:?}");
}

/// The same document with one more grant, somewhere.
fn with(layer: &Layer, generator: &mut Generator) -> Layer {
    let mut layer = layer.clone();
    let at = generator.below(layer.grants.len() as u64 + 1) as usize;
    layer.grants.insert(at, generator.grant().0);
    layer
}

#[test]
fn the_reference_knows_globs() {
    for (glob, text, fits) in [
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
        assert_eq!(reference::matches(glob, text), fits, "{glob} {text}");
    }
}
