//! What a grant wants beside names: a person's yes, labels, evidence.

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::effect::Effect;
use salve_core::effect::run::{Level, Note};
use salve_core::glob::Glob;
use salve_core::grants::{Approval, Evidence, Grant, Grants, Layer, LogLines, Max, Selector};
use salve_core::journal::Entry;
use salve_core::outcome::Error;
use salve_run::{Mode, NoObserver, Observer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fixture::*;

/// Who answers every question alike, and counts them.
struct Says(bool, Arc<AtomicU64>);

impl Observer for Says {
    fn on_start(&mut self, _: &Effect) {}
    fn on_entry(&mut self, _: &Entry) {}
    fn ask(&mut self, question: &str) -> BoxFuture<'static, Option<bool>> {
        assert!(
            question
                .contains("policy.yaml wants a person's yes: restart-deployment.restart media/x"),
            "{question}"
        );
        self.1.fetch_add(1, Ordering::SeqCst);
        let said = self.0;
        async move { Some(said) }.boxed()
    }
}

/// The usual grants, changed.
fn changed(change: impl Fn(&mut Grant)) -> Grants {
    let mut grants = grants();
    grants.layers[0].grants.iter_mut().for_each(change);
    grants
}

#[tokio::test]
async fn what_wants_a_persons_yes_is_done_with_it_and_with_nothing_else() {
    let asks = || {
        changed(|grant| {
            grant.approval =
                Some(Approval::Required).filter(|_| grant.capability == "restart-deployment")
        })
    };
    for (observer, said, done) in [
        (Some(true), "", true),
        (Some(false), "a person said no", false),
        (None, "nobody is at a terminal to say yes", false),
    ] {
        let questions = Arc::new(AtomicU64::new(0));
        let somebody: Box<dyn Observer> = match observer {
            Some(says) => Box::new(Says(says, questions.clone())),
            None => Box::new(NoObserver),
        };
        let mut told = under(Mode::Live, Scripted::default(), asks(), somebody);
        // A look of the same capability and a touch of another ask nobody.
        told.run.call(delete(&["plex"])).await.unwrap().unwrap();
        let answer = told.run.call(restart("media")).await.unwrap();
        assert_eq!(answer.is_ok(), done, "{answer:?}");
        assert!(
            answer.is_ok()
                || matches!(&answer, Err(Error::Denied(text)) if text.contains(said) && text.contains("salve run --plan")),
            "{answer:?}"
        );
        assert_eq!(asked(&told).contains(&"act restart-deployment.restart".into()), done);
        assert_eq!(questions.load(Ordering::SeqCst), u64::from(observer.is_some()));
        assert!(
            done || matches!(told.journal.entries().last(), Some(Entry::Done(d)) if d.denial.is_some())
        );
    }
    // A plan is what a person says yes to.
    let mut told = under(Mode::Plan, Scripted::default(), asks(), Box::new(NoObserver));
    assert!(told.run.call(restart("media")).await.unwrap().is_ok());
}

#[tokio::test]
async fn an_object_that_is_not_as_its_grant_wants_it_is_not_touched() {
    for mode in [Mode::Live, Mode::Plan] {
        let only = changed(|grant| {
            grant.label_selector = Some(Selector::read("app=sonarr").unwrap())
                .filter(|_| grant.capability == "suspend-flux")
        });
        let mut told = under(mode, Scripted::default(), only, Box::new(NoObserver));
        let answer = told.run.suspend(suspend()).await.unwrap();
        assert!(
            matches!(&answer, Err(Error::Denied(text)) if text.contains("does not bear the labels \"app=sonarr\"")),
            "{answer:?}"
        );
        assert!(!asked(&told).contains(&"act suspend-flux.suspend".into()));
        let entries = told.journal.entries();
        // With what it met, so that a replay under other grants can judge it anew.
        assert!(
            matches!(entries.last(), Some(Entry::Done(d)) if d.denial.is_some() && d.observed.is_some()),
            "{entries:?}"
        );
        let absent = changed(|grant| {
            grant.label_selector = Some(Selector::read("!keep").unwrap())
                .filter(|_| grant.capability == "suspend-flux")
        });
        let mut told = under(mode, Scripted::default(), absent, Box::new(NoObserver));
        assert!(told.run.suspend(suspend()).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn evidence_that_a_document_wants_has_to_be_recorded_first() {
    let locks = || Evidence {
        pending_claims: None,
        log_lines: vec![LogLines { like: Glob::new("*locked*").unwrap(), least: 1 }],
    };
    let proven = changed(|grant| {
        grant.evidence = Some(locks()).filter(|_| grant.capability == "restart-deployment")
    });
    let mut told = under(Mode::Live, Scripted::default(), proven, Box::new(NoObserver));
    told.run
        .call(Note { level: Level::Info, text: "I have seen a thousand locks".into() })
        .await
        .unwrap()
        .unwrap();
    let answer = told.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Denied(text)) if text.contains("1 log lines like \"*locked*\", and this run has recorded 0")),
        "{answer:?}"
    );
    assert!(!asked(&told).contains(&"act restart-deployment.restart".into()));
}

/// Two grants fit; which of them holds is known when the object was read.
#[tokio::test]
async fn the_grant_that_holds_for_the_object_is_charged_and_asks() {
    let labelled = Grant {
        label_selector: Some(Selector::read("app=other").unwrap()),
        ..Grant::whole("restart-deployment")
    };
    let others = |other: Grant| Grants {
        layers: vec![Layer { source: "policy.yaml".into(), grants: vec![labelled.clone(), other] }],
    };

    let asks =
        others(Grant { approval: Some(Approval::Required), ..Grant::whole("restart-deployment") });
    let mut told = under(Mode::Live, Scripted::default(), asks, Box::new(NoObserver));
    let answer = told.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Denied(text)) if text.contains("nobody is at a terminal")),
        "{answer:?}"
    );
    assert!(!asked(&told).contains(&"act restart-deployment.restart".into()));

    let once = others(Grant {
        max: Max { restarts: Some(1), ..Max::default() },
        ..Grant::whole("restart-deployment")
    });
    let mut told = under(Mode::Live, Scripted::default(), once, Box::new(NoObserver));
    assert!(told.run.call(restart("media")).await.unwrap().is_ok());
    let answer = told.run.call(restart("media")).await.unwrap();
    assert!(matches!(&answer, Err(Error::Denied(_))), "{answer:?}");
    assert_eq!(
        asked(&told).iter().filter(|one| *one == "act restart-deployment.restart").count(),
        1
    );
}
