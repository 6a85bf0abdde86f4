//! Questions to the user: they expire, and what was approved is compared again before it is sent.

use crate::fixture::*;
use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::capability::run::{AskUser, Sleep};
use salve_core::capability::{Capability, Write};
use salve_core::grants::{Approval, Grant, Grants, Selector};
use salve_core::outcome::Error;
use salve_core::report::Verdict;
use salve_run::{Mode, NoPrompt, Prompt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A user who answers yes after some time of the cluster's clock, or not at all.
struct Slow {
    clock: Arc<Ticks>,
    answers_after: Option<Duration>,
}

impl Prompt for Slow {
    fn is_available(&self) -> bool {
        true
    }

    fn ask(&mut self, _: &str) -> BoxFuture<'static, Option<bool>> {
        match self.answers_after {
            Some(after) => {
                self.clock.advance(after);
                async { Some(true) }.boxed()
            }
            None => std::future::pending().boxed(),
        }
    }
}

/// Returns the usual grants, with approval required for restarts. With `by_object`, that is known
/// only once the object is read.
fn requiring(by_object: bool) -> Grants {
    let mut grants = grants();
    let all = &mut grants.layers[0].grants;
    let restarts = |grant: &&mut Grant| grant.capability == Capability::RestartDeployment;
    let grant = all.iter_mut().find(restarts).unwrap();
    grant.approval = Some(Approval::Required);
    if by_object {
        let selector = Selector::parse("app=other").unwrap();
        let free = Grant { label_selector: Some(selector), approval: None, ..grant.clone() };
        all.insert(0, free);
    }
    grants
}

fn asking(backend: Scripted, answers_after: Option<Duration>, by_object: bool) -> Fixture {
    let prompt = Box::new(Slow { clock: backend.clock.clone(), answers_after });
    fixture_with(Mode::Live, backend, requiring(by_object), prompt)
}

const RESTART: &str = "restart-deployment.restart";

#[tokio::test(start_paused = true)]
async fn a_late_yes_counts_as_no() {
    for by_object in [false, true] {
        for (answers_after, is_in_time) in [
            (Some(Duration::ZERO), true),
            (Some(Duration::from_secs(299)), true),
            (Some(Duration::from_secs(301)), false),
            (Some(Duration::from_secs(3_000)), false),
            (None, false),
        ] {
            let mut fixture = asking(Scripted::default(), answers_after, by_object);
            let answer = fixture.run.call(restart("media")).await.unwrap();
            assert_eq!(fixture.has_called(&format!("apply {RESTART}")), is_in_time);
            match answer {
                Ok(_) => assert!(is_in_time),
                Err(Error::Denied(text)) => {
                    assert!(!is_in_time && text.contains("no answer within 5 min"), "{text}");
                }
                Err(error) => panic!("{error}"),
            }
            // A question of the guest.
            let mut fixture = asking(Scripted::default(), answers_after, by_object);
            let ask = AskUser { question: "sure?".into() };
            assert_eq!(fixture.run.call(ask).await.unwrap(), Ok(is_in_time));
        }
    }
}

#[tokio::test]
async fn an_answer_after_the_deadline_of_the_run_is_too_late() {
    let mut fixture = asking(Scripted::default(), Some(Duration::from_secs(60)), true);
    fixture.run.call(Sleep { milliseconds: 3_590_000 }).await.unwrap().unwrap();
    let error = fixture.run.call(restart("media")).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("deadline has passed"), "{error}");
    assert!(fixture.sent().is_empty(), "{:?}", fixture.calls());
}

/// While the user thinks, the cluster changes.
#[tokio::test]
async fn what_was_approved_is_read_again_after_the_answer() {
    let (same, replaced) = ("u-1", "replaced");
    let again = || Mutex::new([conflict(None, Write::Restart(restart("media")))].into());
    for (by_object, applies, uids, sent) in [
        (true, Mutex::default(), vec![same, same], 1),
        (true, Mutex::default(), vec![same, replaced], 0),
        // Between two attempts.
        (true, again(), vec![same, same, same], 2),
        (true, again(), vec![same, same, replaced], 1),
        (false, again(), vec![same, same], 2),
        (false, again(), vec![same, replaced], 1),
    ] {
        let uids = Mutex::new(uids.into());
        let backend = Scripted { applies, uids, ..Scripted::default() };
        let mut fixture = asking(backend, Some(Duration::ZERO), by_object);
        let last = fixture.backend.uids.lock().unwrap().back().copied();
        let answer = fixture.run.call(restart("media")).await.unwrap();
        match answer {
            Ok(_) => assert_eq!(last, Some(same)),
            Err(Error::Conflict(text)) => {
                assert_eq!(last, Some(replaced));
                assert!(text.contains("after it was approved"), "{text}");
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(fixture.sent().len(), sent, "{:?}", fixture.calls());
        assert!(fixture.backend.uids.lock().unwrap().is_empty(), "{:?}", fixture.calls());
    }
}

#[tokio::test]
async fn nothing_is_changed_if_no_one_can_approve_what_follows() {
    let start = |mode, grants| fixture_with(mode, Scripted::default(), grants, Box::new(NoPrompt));
    let mut fixture = start(Mode::Live, requiring(false));
    let error = fixture.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap_err();
    assert!(
        matches!(&error, Error::Denied(text) if text.contains("policy.yaml")
            && text.contains("no one is available") && text.contains("`salve plan`")),
        "{error}"
    );
    assert!(fixture.calls().is_empty(), "{:?}", fixture.calls());
    // Reads are not writes, a plan is what someone approves, and other grants require nothing.
    fixture.run.call(list_pods()).await.unwrap().unwrap();
    let exit = fixture.run.exit_of_error(&error);
    let result = fixture.run.finish(exit).await;
    assert_eq!((result.verdict, result.exit_code()), (Verdict::NeedsApproval, 8), "{result:?}");
    let mut plan = start(Mode::Plan, requiring(false));
    plan.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap();
    let approval = salve_core::approval::Approval::of("p1", "d", &plan.journal.entries());
    let bound = start(Mode::Live, requiring(false)).run;
    let mut bound = bound.approved(approval, &[]).unwrap();
    bound.call_reversible(suspend(&["plex"])).await.unwrap().unwrap();
    let mut free = start(Mode::Live, grants());
    free.run.call_reversible(suspend(&["plex"])).await.unwrap().unwrap();
}
