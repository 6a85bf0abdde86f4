//! Conditions of a grant beside names: approval, labels, evidence.

use crate::fixture::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::capability::Capability;
use salve_core::capability::run::{Level, Note};
use salve_core::glob::Glob;
use salve_core::grants::{Approval, Evidence, Grant, Grants, LogLines, Selector};
use salve_core::journal::Entry;
use salve_core::outcome::Error;
use salve_run::{Mode, NoPrompt, Prompt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A user who gives every question the same answer. Counts the questions.
struct Answers(bool, Arc<AtomicU64>);

impl Prompt for Answers {
    fn is_available(&self) -> bool {
        true
    }

    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        assert_eq!(
            question,
            "policy.yaml requires approval. Allow restart-deployment.restart media/x?"
        );
        self.1.fetch_add(1, Ordering::SeqCst);
        let answer = self.0;
        async move { Some(answer) }.boxed()
    }
}

/// Returns the usual grants with the grants of one capability changed.
fn changed(capability: Capability, change: impl Fn(&mut Grant)) -> Grants {
    let mut grants = grants();
    grants.layers[0]
        .grants
        .iter_mut()
        .filter(|grant| grant.capability == capability)
        .for_each(change);
    grants
}

fn live_with(grants: Grants) -> Fixture {
    fixture_with(Mode::Live, Scripted::default(), grants, Box::new(NoPrompt))
}

const RESTART: &str = "apply restart-deployment.restart";

#[tokio::test]
async fn a_write_that_requires_approval_needs_a_yes_of_the_user() {
    let requiring = || {
        changed(Capability::RestartDeployment, |grant| grant.approval = Some(Approval::Required))
    };
    for (answers, why) in [
        (Some(true), None),
        (Some(false), Some("the user rejected it")),
        (None, Some("no one is available to approve at a terminal")),
    ] {
        let questions = Arc::new(AtomicU64::new(0));
        let prompt: Box<dyn Prompt> = match answers {
            Some(answer) => Box::new(Answers(answer, questions.clone())),
            None => Box::new(NoPrompt),
        };
        let mut fixture = fixture_with(Mode::Live, Scripted::default(), requiring(), prompt);
        // A write of another capability requires no approval, but is not tried if the run cannot
        // be completed.
        let other = fixture.run.call(delete(&["plex"])).await.unwrap();
        assert_eq!(other.is_ok(), answers.is_some(), "{other:?}");
        assert_eq!(questions.load(Ordering::SeqCst), 0);
        let answer = fixture.run.call(restart("media")).await.unwrap();
        match (&answer, why) {
            (Ok(_), None) => {}
            (Err(Error::Denied(text)), Some(why)) => {
                assert!(text.contains(why) && text.contains("salve run --plan"), "{text}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fixture.has_called(RESTART), answer.is_ok());
        assert_eq!(questions.load(Ordering::SeqCst), u64::from(answers.is_some()));
        let entries = fixture.journal.entries();
        let denied = matches!(entries.last(), Some(Entry::Done(done)) if done.denial.is_some());
        assert_eq!(denied, answer.is_err());
    }
    // A plan is what the user approves.
    let mut fixture =
        fixture_with(Mode::Plan, Scripted::default(), requiring(), Box::new(NoPrompt));
    assert!(fixture.run.call(restart("media")).await.unwrap().is_ok());
}

#[tokio::test]
async fn an_object_that_does_not_match_its_grant_is_not_changed() {
    let labeled = |selector: &str| {
        changed(Capability::SuspendFlux, |grant| {
            grant.label_selector = Some(Selector::parse(selector).unwrap());
        })
    };
    for mode in [Mode::Live, Mode::Plan] {
        let grants = labeled("app=sonarr");
        let mut fixture = fixture_with(mode, Scripted::default(), grants, Box::new(NoPrompt));
        let answer = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap();
        assert!(
            matches!(&answer, Err(Error::Denied(text)) if text.contains("labels do not match selector \"app=sonarr\"")),
            "{answer:?}"
        );
        assert!(!fixture.has_called("apply suspend-flux.suspend"));
        let entries = fixture.journal.entries();
        // With what was read, so that a replay under other grants can decide again.
        assert!(
            matches!(entries.last(), Some(Entry::Done(d)) if d.denial.is_some() && d.observed.is_some()),
            "{entries:?}"
        );
        let grants = labeled("!keep");
        let mut fixture = fixture_with(mode, Scripted::default(), grants, Box::new(NoPrompt));
        assert!(fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn required_evidence_must_be_recorded_first() {
    let proven = changed(Capability::RestartDeployment, |grant| {
        let pattern = Glob::new("*locked*").unwrap();
        grant.evidence =
            Some(Evidence { pending_pvcs: None, log_lines: vec![LogLines { pattern, min: 1 }] });
    });
    let mut fixture = live_with(proven);
    let note = Note { level: Level::Info, text: "I have seen a thousand locked volumes".into() };
    fixture.run.call(note).await.unwrap().unwrap();
    let answer = fixture.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Denied(text)) if text.contains("log lines matching \"*locked*\" ≥ 1, recorded so far: 0")),
        "{answer:?}"
    );
    assert!(!fixture.has_called(RESTART));
}

/// Two grants match by name. Which of them applies is known once the object is read.
#[tokio::test]
async fn the_grant_that_applies_to_the_object_is_charged_and_requires_approval() {
    let whole = || Grant::whole(Capability::RestartDeployment);
    let labeled = Grant { label_selector: Some(Selector::parse("app=other").unwrap()), ..whole() };
    let with =
        |grant: Grant| Grants { layers: vec![layer("policy.yaml", vec![labeled.clone(), grant])] };

    let grants = with(Grant { approval: Some(Approval::Required), ..whole() });
    let questions = Arc::new(AtomicU64::new(0));
    let prompt = Box::new(Answers(false, questions.clone()));
    let mut fixture = fixture_with(Mode::Live, Scripted::default(), grants, prompt);
    let answer = fixture.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Denied(text)) if text.contains("the user rejected it")),
        "{answer:?}"
    );
    assert_eq!(questions.load(Ordering::SeqCst), 1);
    assert!(!fixture.has_called(RESTART));

    let mut fixture = live_with(with(Grant { max: max("restarts", 1), ..whole() }));
    assert!(fixture.run.call(restart("media")).await.unwrap().is_ok());
    let answer = fixture.run.call(restart("media")).await.unwrap();
    assert!(matches!(&answer, Err(Error::Denied(_))), "{answer:?}");
    assert_eq!(fixture.calls().iter().filter(|call| *call == RESTART).count(), 1);
}
