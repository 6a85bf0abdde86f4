//! The door's promises, on a backend that does as it is told.

mod conditions;
mod fixture;

use futures::FutureExt;
use futures::future::BoxFuture;
use salve_core::effect::delete_replicationsources::{Deletion, DeletionOutcome};
use salve_core::effect::query_pods::ListPods;
use salve_core::effect::restart_deployment::Restarted;
use salve_core::effect::run::{Level, Note, Sleep};
use salve_core::effect::{Answer, Effect, Write};
use salve_core::grants::{Grants, Layer};
use salve_core::journal::{Entry, Failure, GuestExit, Recovery};
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, Verdict};
use salve_run::{
    ApplyOutcome, Halt, InMemory, Journal, Mode, NoObserver, Observer, Run, RunContext, Stop,
};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use fixture::*;

#[tokio::test]
async fn a_denial_is_an_answer_that_reaches_nobody_but_the_journal() {
    let mut told = live([]);
    let answer = told.run.call(restart("kube-system")).await.unwrap();
    assert!(matches!(answer, Err(Error::Denied(_))));
    assert!(asked(&told).is_empty());
    assert!(matches!(told.journal.entries().last(), Some(Entry::Done(d)) if d.denial.is_some()));
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_before_anybody_sees_it() {
    let mut told = live([]);
    for namespace in ["media/../kube-system", "media%2f", "", "me\0dia"] {
        let answer = told.run.call(ListPods { namespaces: vec![namespace.into()] }).await.unwrap();
        assert!(matches!(answer, Err(Error::Invalid(_))), "{namespace:?}");
    }
    assert!(asked(&told).is_empty());
}

/// A journal that writes what happens between the backend's calls into the same list.
struct Interleaved(Arc<Scripted>);

impl Journal for Interleaved {
    fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let word = match entry {
            Entry::Opened(_) => "opened",
            Entry::Closed(_) => "closed",
            _ => return Ok(()),
        };
        self.0.asked.lock().unwrap().push(word.into());
        Ok(())
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.asked.lock().unwrap().push("sync".into());
        Ok(())
    }
}

#[tokio::test]
async fn a_write_leaves_only_after_its_entry_is_on_the_disk() {
    let backend = Arc::new(Scripted::default());
    let setting = RunContext {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(Interleaved(backend.clone())),
        observer: Box::new(NoObserver),
        stop: Stop::default(),
        mode: Mode::Live,
    };
    let mut run = Run::begin(setting, header()).unwrap();
    run.call(restart("media")).await.unwrap().unwrap();
    let name = "restart-deployment.restart";
    assert_eq!(
        *backend.asked.lock().unwrap(),
        [&format!("prepare {name}"), "opened", "sync", &format!("act {name}"), "closed"]
    );
}

/// Takes so many entries, then no more.
struct Full(usize);

impl Journal for Full {
    fn append(&mut self, _: &Entry) -> std::io::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| std::io::Error::other("disk full"))?;
        Ok(())
    }
    fn sync(&mut self) -> std::io::Result<()> {
        if self.0 == 0 { Err(std::io::Error::other("disk full")) } else { Ok(()) }
    }
}

#[tokio::test]
async fn a_full_disk_stops_the_run_before_the_next_write_and_releases_what_is_suspended() {
    let backend = Arc::new(Scripted::default());
    let setting = RunContext {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(Full(5)),
        observer: Box::new(NoObserver),
        stop: Stop::default(),
        mode: Mode::Live,
    };
    let mut run = Run::begin(setting, header()).unwrap();
    hold(&mut run).await;
    let halt = run.call(restart("media")).await.unwrap_err();
    assert!(matches!(&halt, Halt::Broken(text) if text.contains("disk full")), "{halt}");
    let closing =
        run.finish(GuestExit::Failed(Failure { fault: Fault::Host, text: halt.to_string() })).await;
    assert_eq!(closing.verdict, Verdict::Failed(Fault::Host));
    let asked = backend.asked.lock().unwrap();
    assert!(!asked.contains(&"act restart-deployment.restart".to_owned()));
    assert!(asked.contains(&"act suspend-flux.resume".to_owned()));
}

/// Wherever the disk gives out, what is suspended is given back, and nothing is called done that the file does not say.
#[tokio::test]
async fn no_run_is_a_success_whose_end_is_not_on_the_disk() {
    let mut room = 1;
    loop {
        let backend = Arc::new(Scripted::default());
        let setting = RunContext {
            backend: backend.clone(),
            clock: Arc::new(Ticks::default()),
            journal: Box::new(Full(room)),
            observer: Box::new(NoObserver),
            stop: Stop::default(),
            mode: Mode::Live,
        };
        let mut run = Run::begin(setting, header()).unwrap();
        let done = async {
            run.suspend(suspend()).await?.unwrap();
            run.call(restart("media")).await?.unwrap();
            Ok::<_, Halt>(concluded(Concluded::NothingToDo, vec![]))
        };
        let ending = done.await.unwrap_or_else(|halt| {
            GuestExit::Failed(Failure { fault: Fault::Host, text: halt.to_string() })
        });
        let closing = run.finish(ending).await;
        let asked = backend.asked.lock().unwrap();
        let did = |what: &str| asked.contains(&what.to_owned());
        assert!(
            !did("act suspend-flux.suspend") || did("act suspend-flux.resume"),
            "room for {room}: {asked:?}"
        );
        if closing.verdict == Verdict::NothingToDo {
            break;
        }
        assert_eq!(
            closing.verdict,
            Verdict::Failed(Fault::Host),
            "room for {room}: {}",
            closing.summary
        );
        assert!(closing.summary.contains("disk full"), "{}", closing.summary);
        room += 1;
    }
    assert!(room > 10, "the disk gave out {room} times");
}

#[tokio::test]
async fn a_conflict_is_prepared_anew_and_each_attempt_stands_in_the_journal() {
    let again = || ApplyOutcome::Conflict {
        completed: None,
        rest: Write::Restart(restart("media")),
        message: "changed".into(),
    };
    let mut told = live([again(), again()]);
    told.run.call(restart("media")).await.unwrap().unwrap();
    let attempts: Vec<_> = told
        .journal
        .entries()
        .iter()
        .filter_map(|e| if let Entry::Opened(o) = e { Some((o.n, o.attempt)) } else { None })
        .collect();
    assert_eq!(attempts, [(1, 1), (1, 2), (1, 3)]);
}

#[tokio::test]
async fn a_set_deleted_in_part_is_answered_whole_and_in_its_order() {
    let part = ApplyOutcome::Conflict {
        completed: Some(Answer::Delete(vec![deletion(&frozen("b"), DeletionOutcome::Deleted)])),
        rest: Write::Delete(delete(&["a", "c"])),
        message: "changed".into(),
    };
    let then = ApplyOutcome::Done(Ok(Answer::Delete(vec![deletion(
        &frozen("c"),
        DeletionOutcome::Changed,
    )])));
    let mut told = live([part, then]);
    let answer = told.run.call(delete(&["a", "b", "c"])).await.unwrap().unwrap();
    let ends: Vec<_> = answer.iter().map(|d| (d.object.name.as_str(), d.outcome)).collect();
    assert_eq!(
        ends,
        [
            ("a", DeletionOutcome::Rejected),
            ("b", DeletionOutcome::Deleted),
            ("c", DeletionOutcome::Changed)
        ]
    );
}

#[tokio::test]
async fn a_suspension_is_given_back_however_the_guest_ends() {
    for ending in [
        concluded(Concluded::NotFixed, vec![]),
        GuestExit::Failed(Failure { fault: Fault::Guest, text: "trap".into() }),
        GuestExit::Failed(Failure { fault: Fault::Cluster, text: "gone".into() }),
    ] {
        let mut told = live([]);
        hold(&mut told.run).await;
        let asked = told.backend.clone();
        let closing = told.run.finish(ending).await;
        assert!(closing.open.is_empty());
        assert_eq!(asked.asked.lock().unwrap().last().unwrap(), "act suspend-flux.resume");
    }
}

#[tokio::test]
async fn resuming_twice_sends_one_request() {
    let mut told = live([]);
    let id = hold(&mut told.run).await;
    let first = told.run.resume(id).await.unwrap().unwrap();
    assert_eq!(told.run.resume(id).await.unwrap().unwrap(), first);
    assert_eq!(asked(&told).iter().filter(|a| *a == "act suspend-flux.resume").count(), 1);
    assert!(matches!(told.run.resume(99).await.unwrap(), Err(Error::Invalid(_))));
}

#[tokio::test]
async fn a_suspension_that_cannot_be_given_back_is_said_loudly() {
    let silent = || ApplyOutcome::Done(Err(Error::Unavailable("silent".into())));
    let ok = ApplyOutcome::Done(Ok(Answer::Suspend(vec![suspended(&app("plex"))])));
    let mut told = live([ok].into_iter().chain(std::iter::repeat_with(silent).take(50)));
    hold(&mut told.run).await;
    let closing = told.run.finish(concluded(Concluded::Fixed, vec![])).await;
    assert_eq!((closing.verdict, closing.open.len()), (Verdict::ActionRequired, 1));
    assert!(closing.summary.contains("Kustomization media/plex"), "{}", closing.summary);
}

#[tokio::test]
async fn a_suspend_whose_fate_is_unknown_is_given_back_at_once() {
    let mut told = live([ApplyOutcome::Done(Err(Error::Unavailable("drain".into())))]);
    assert!(told.run.suspend(suspend()).await.unwrap().is_err());
    assert_eq!(asked(&told).last().unwrap(), "act suspend-flux.resume");
    assert!(told.run.open().is_empty());
}

#[tokio::test]
async fn fixed_is_not_believed_without_proof_of_our_own() {
    let mut told = live([]);
    told.run.call(restart("media")).await.unwrap().unwrap();
    told.run.call(ListPods { namespaces: vec!["media".into()] }).await.unwrap().unwrap();
    // No pods at all show nothing.
    let n = told.run.last_entry();
    let closing = told.run.finish(concluded(Concluded::Fixed, vec![n])).await;
    assert_eq!(closing.verdict, Verdict::NotFixed);
}

#[tokio::test]
async fn a_plan_sends_no_write_and_ends_at_the_first_wait_after_one() {
    let mut told = told(Mode::Plan, Scripted::default());
    told.run.call(Sleep { milliseconds: 10 }).await.unwrap().unwrap();
    let id = hold(&mut told.run).await;
    told.run.call(delete(&["a"])).await.unwrap().unwrap();
    assert_eq!(told.run.open().len(), 1, "a plan says what it would give back");
    told.run.resume(id).await.unwrap().unwrap();
    let halt = told.run.call(Sleep { milliseconds: 10 }).await.unwrap_err();
    assert!(matches!(halt, Halt::PlanEnds(_)));
    assert!(asked(&told).iter().all(|a| !a.starts_with("act")), "{:?}", asked(&told));
    let closing = told.run.finish(GuestExit::PlanEnds("waits".into())).await;
    assert_eq!((closing.verdict, closing.open.len()), (Verdict::Planned, 0));
}

#[tokio::test]
async fn a_diagnosis_touches_nothing_whatever_is_granted() {
    let mut told = told(Mode::Diagnosis, Scripted::default());
    assert!(matches!(told.run.call(restart("media")).await.unwrap(), Err(Error::Denied(_))));
    assert!(matches!(told.run.suspend(suspend()).await.unwrap(), Err(Error::Denied(_))));
    assert!(asked(&told).is_empty());
}

#[tokio::test]
async fn stopping_ends_a_look_that_hangs_and_still_releases() {
    let mut told = told(Mode::Live, Scripted { hangs: true, ..Scripted::default() });
    hold(&mut told.run).await;
    let stop = told.stop.clone();
    let (halt, ()) =
        tokio::join!(told.run.call(ListPods { namespaces: vec!["media".into()] }), async {
            stop.request()
        });
    assert_eq!(halt.unwrap_err(), Halt::Stopped);
    assert_eq!(told.run.call(restart("media")).await.unwrap_err(), Halt::Stopped);
    let closing = told.run.finish(concluded(Concluded::NotFixed, vec![])).await;
    assert!(closing.open.is_empty());
}

#[tokio::test]
async fn a_maximum_counts_attempts_whatever_they_came_to() {
    let mut told = live([ApplyOutcome::Done(Err(Error::Unavailable("silent".into())))]);
    assert!(told.run.call(restart("media")).await.unwrap().is_err());
    let second = told.run.call(restart("media")).await.unwrap();
    assert!(
        matches!(&second, Err(Error::Denied(text)) if text.contains("allows 1 restarts")),
        "{second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_answers_has_a_deadline() {
    let mut told = told(Mode::Live, Scripted { hangs: true, ..Scripted::default() });
    let answer = told.run.call(ListPods { namespaces: vec!["media".into()] }).await.unwrap();
    assert!(
        matches!(&answer, Err(Error::Unavailable(text)) if text.contains("no answer within")),
        "{answer:?}"
    );
}

#[tokio::test]
async fn stopping_twice_abandons_a_write_that_hangs_and_leaves_it_open_in_the_journal() {
    let mut told = told(Mode::Live, Scripted { act_hangs: true, ..Scripted::default() });
    let stop = told.stop.clone();
    let (halt, ()) = tokio::join!(told.run.call(restart("media")), async {
        stop.request();
        stop.request();
    });
    assert_eq!(halt.unwrap_err(), Halt::Stopped);
    let entries = told.journal.entries();
    assert!(
        matches!(entries.last(), Some(Entry::Opened(_))),
        "in doubt, and never unseen: {entries:?}"
    );
}

#[tokio::test]
async fn an_object_made_anew_between_two_attempts_is_given_back_as_the_one_that_was_suspended() {
    let again = ApplyOutcome::Conflict {
        completed: None,
        rest: Write::Suspend(suspend()),
        message: "made anew".into(),
    };
    let mut told = live([again]);
    *told.backend.uids.lock().unwrap() = VecDeque::from(["old", "new"]);
    hold(&mut told.run).await;
    let uids: Vec<_> = told.run.open().into_iter().map(|r| r.uid).collect();
    assert_eq!(uids, ["new"]);
}

/// A terminal that has gone away in the worst manner.
struct Gone;

impl Observer for Gone {
    fn on_start(&mut self, _: &Effect) {
        panic!("nobody reads this");
    }
    fn on_entry(&mut self, _: &Entry) {
        panic!("nobody reads this");
    }
    fn ask(&mut self, _: &str) -> BoxFuture<'static, Option<bool>> {
        async { None }.boxed()
    }
}

#[tokio::test]
async fn a_person_who_is_gone_keeps_nothing_suspended() {
    let backend = Arc::new(Scripted::default());
    let setting = RunContext {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(InMemory::default()),
        observer: Box::new(Gone),
        stop: Stop::default(),
        mode: Mode::Live,
    };
    let mut run = Run::begin(setting, header()).unwrap();
    hold(&mut run).await;
    let closing = run.finish(concluded(Concluded::NotFixed, vec![])).await;
    assert!(closing.open.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_cluster_does_not_keep_a_run_from_ending() {
    let mut told = told(Mode::Live, Scripted::default());
    hold(&mut told.run).await;
    told.backend.silent.store(true, Ordering::SeqCst);
    let closing = told.run.finish(concluded(Concluded::NotFixed, vec![])).await;
    assert_eq!((closing.verdict, closing.open.len()), (Verdict::ActionRequired, 1));
}

#[tokio::test]
async fn a_guest_that_waits_for_ever_is_ended_and_what_it_holds_is_given_back() {
    let mut told = live([]);
    hold(&mut told.run).await;
    let mut halt = None;
    // Its hour and ten minutes more, in waits of half an hour.
    for waits in 1..=3 {
        halt = told.run.call(Sleep { milliseconds: 1_800_000 }).await.err();
        assert_eq!(halt.is_some(), waits == 3, "after {waits} waits: {halt:?}");
    }
    assert!(matches!(&halt, Some(Halt::Late(text)) if text.contains("70 min")), "{halt:?}");
    assert!(
        matches!(told.run.call(restart("media")).await, Err(Halt::Late(_))),
        "nor does it go on"
    );
    assert!(!asked(&told).contains(&"act restart-deployment.restart".into()));
    let closing = told
        .run
        .finish(GuestExit::Failed(Failure { fault: Fault::Guest, text: halt.unwrap().to_string() }))
        .await;
    assert!(
        closing.open.is_empty() && closing.verdict == Verdict::Failed(Fault::Guest),
        "{closing:?}"
    );
    assert!(told.backend.asked.lock().unwrap().contains(&"act suspend-flux.resume".into()));
}

#[tokio::test]
async fn a_guest_that_floods_the_record_is_ended() {
    let mut told = live([]);
    let mut halt = None;
    for _ in 0..20_000 {
        if let Err(end) =
            told.run.call(Note { level: Level::Info, text: "x".repeat(16 << 10) }).await
        {
            halt = Some(end);
            break;
        }
    }
    assert!(matches!(&halt, Some(Halt::Flooded(_))), "{halt:?}");
}

#[tokio::test]
async fn who_insists_during_a_release_does_not_lose_it() {
    let mut told = live([]);
    hold(&mut told.run).await;
    *told.backend.insisted_upon.lock().unwrap() = Some(told.stop.clone());
    let closing = told.run.finish(concluded(Concluded::NotFixed, vec![])).await;
    assert!(closing.open.is_empty(), "{closing:?}");
}

#[tokio::test]
async fn while_another_run_holds_the_cluster_nothing_is_touched() {
    let mut told = told(Mode::Live, Scripted { held_by: Some("0badcafe"), ..Scripted::default() });
    told.run.call(ListPods { namespaces: vec!["media".into()] }).await.unwrap().unwrap();
    let halt = told.run.call(restart("media")).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::ClusterLocked(error) if error.text().contains("0badcafe")),
        "{halt}"
    );
    assert_eq!(asked(&told), ["query-pods.list-pods"]);
}

#[tokio::test]
async fn the_cluster_is_taken_once_and_given_back_at_the_end() {
    let mut told = live([]);
    told.run.call(restart("media")).await.unwrap().unwrap();
    hold(&mut told.run).await;
    told.run.finish(concluded(Concluded::NotFixed, vec![])).await;
    let leases: Vec<_> = told
        .journal
        .entries()
        .iter()
        .filter_map(|e| if let Entry::Done(d) = e { Some(d.effect.name()) } else { None })
        .collect();
    assert_eq!(leases, ["host.acquire-lease", "host.release-lease"]);
}

/// The entries of a run that dies in `act` of its `nth` touch.
async fn died(nth: usize, writes: impl AsyncFnOnce(&mut Run)) -> Vec<Entry> {
    let mut told =
        told(Mode::Live, Scripted { dies_at: Mutex::new(Some(nth)), ..Scripted::default() });
    let died = told.backend.died.clone();
    tokio::select! {
        biased;
        () = died.notified() => {}
        () = writes(&mut told.run) => panic!("it did not die"),
    }
    told.journal.entries()
}

/// Takes the run up on a backend that does as it is told, and calls the guest anew.
fn is_recovery(entries: Vec<Entry>, backend: Scripted, today: Grants) -> Told {
    let backend = Arc::new(backend);
    let journal = InMemory::default();
    let stop = Stop::default();
    let setting = RunContext {
        backend: backend.clone(),
        clock: Arc::new(Ticks::default()),
        journal: Box::new(journal.clone()),
        observer: Box::new(NoObserver),
        stop: stop.clone(),
        mode: Mode::Live,
    };
    let recovery = Recovery {
        at: 0,
        salve: "0".into(),
        user: None,
        machine: None,
        release_only: false,
        today,
    };
    Told { run: Run::recover(setting, entries, recovery).unwrap(), backend, journal, stop }
}

#[tokio::test]
async fn what_was_recorded_is_answered_and_not_performed_again() {
    let entries = died(2, async |run| {
        run.call(restart("media")).await.unwrap().unwrap();
        run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    })
    .await;
    // Of the deletion nobody knows: it is settled by reading first.
    let gone = ApplyOutcome::Done(Ok(Answer::Delete(vec![
        deletion(&frozen("a"), DeletionOutcome::Deleted),
        deletion(&frozen("b"), DeletionOutcome::Deleted),
    ])));
    let mut again = is_recovery(
        entries,
        Scripted { settles: Mutex::new(VecDeque::from([gone])), ..Scripted::default() },
        Grants::default(),
    );
    let restarted = again.run.call(restart("media")).await.unwrap().unwrap();
    assert_eq!(restarted, Restarted { at: 5, old_pods: vec![] });
    assert!(asked(&again).is_empty(), "{:?}", asked(&again));
    let deletions = again.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    assert!(deletions.iter().all(|d| d.outcome == DeletionOutcome::Deleted));
    assert_eq!(asked(&again), ["settle delete-replicationsources.delete"]);
    again.run.call(delete(&["c"])).await.unwrap().unwrap();
    assert!(
        asked(&again).contains(&"act delete-replicationsources.delete".to_owned()),
        "from here on it is new"
    );
}

#[tokio::test]
async fn a_request_to_reconcile_that_is_sent_again_is_the_same_request() {
    let stamps = |entries: &[Entry]| {
        entries
            .iter()
            .filter_map(Entry::opened)
            .map(|opened| opened.observed.at)
            .collect::<Vec<_>>()
    };
    let entries = died(2, async |run| {
        run.call(reconcile()).await.unwrap().unwrap();
        drop(run.call(reconcile()).await);
    })
    .await;
    let [first, second] = stamps(&entries)[..] else { panic!("two requests: {entries:?}") };
    assert_ne!(first, second, "a controller would take two requests of one time for one");
    let mut again = is_recovery(entries.clone(), Scripted::default(), Grants::default());
    for _ in 0..2 {
        again.run.call(reconcile()).await.unwrap().unwrap();
    }
    assert_eq!(asked(&again).last().unwrap(), "act reconcile-flux.reconcile");
    assert_eq!(
        stamps(&again.journal.entries()).last(),
        Some(&second),
        "sent again, it is the one that was sent before"
    );
}

#[tokio::test]
async fn what_is_left_of_an_effect_in_doubt_needs_todays_leave_too() {
    let entries = died(1, async |run| drop(run.call(delete(&["a", "b"])).await)).await;
    let half = || {
        let completed =
            Some(Answer::Delete(vec![deletion(&frozen("a"), DeletionOutcome::Deleted)]));
        Mutex::new(VecDeque::from([ApplyOutcome::Conflict {
            completed,
            rest: Write::Delete(delete(&["b"])),
            message: "1 of 2 was still there".into(),
        }]))
    };
    let ends = |answer: Vec<Deletion>| answer.iter().map(|d| d.outcome).collect::<Vec<_>>();

    let mut allowed = is_recovery(
        entries.clone(),
        Scripted { settles: half(), ..Scripted::default() },
        Grants::default(),
    );
    assert_eq!(
        ends(allowed.run.call(delete(&["a", "b"])).await.unwrap().unwrap()),
        [DeletionOutcome::Deleted, DeletionOutcome::Deleted]
    );

    let nothing = Grants { layers: vec![Layer { source: "today.yaml".into(), grants: vec![] }] };
    let mut denied =
        is_recovery(entries, Scripted { settles: half(), ..Scripted::default() }, nothing);
    let answer = denied.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    assert!(answer[1].message.as_ref().unwrap().contains("today.yaml"), "{answer:?}");
    assert_eq!(ends(answer), [DeletionOutcome::Deleted, DeletionOutcome::Rejected]);
    assert!(asked(&denied).iter().all(|asked| !asked.starts_with("act")), "{:?}", asked(&denied));
}

#[tokio::test]
async fn attempts_before_a_crash_count_towards_todays_maximum() {
    let entries = died(2, async |run| {
        run.call(delete(&["a", "b"])).await.unwrap().unwrap();
        drop(run.call(restart("media")).await);
    })
    .await;
    let mut again = is_recovery(entries, Scripted::default(), Grants::default());
    again.run.call(delete(&["a", "b"])).await.unwrap().unwrap();
    drop(again.run.call(restart("media")).await);
    // Three in a run, two before the crash.
    let more = again.run.call(delete(&["c", "d"])).await.unwrap();
    assert!(
        matches!(&more, Err(Error::Denied(text)) if text.contains("allows 3 deletions")),
        "{more:?}"
    );
}

#[tokio::test]
async fn a_guest_that_asks_for_something_else_is_stopped_before_anything_is_sent() {
    let entries = died(1, async |run| drop(run.call(restart("media")).await)).await;
    let mut again = is_recovery(entries, Scripted::default(), Grants::default());
    let halt = again.run.call(delete(&["a"])).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Diverged { expected, got, .. } if expected.contains("restart") && got.contains("delete")),
        "{halt}"
    );
    assert!(asked(&again).is_empty(), "{:?}", asked(&again));
}

#[tokio::test]
async fn a_guest_that_asks_the_same_of_something_else_is_stopped_too() {
    let entries = died(1, async |run| drop(run.call(delete(&["a"])).await)).await;
    let mut again = is_recovery(entries, Scripted::default(), Grants::default());
    let halt = again.run.call(delete(&["b"])).await.unwrap_err();
    assert!(
        matches!(&halt, Halt::Diverged { expected, got, .. } if expected.contains("\"a\"") && got.contains("\"b\"")),
        "{halt}"
    );
    assert!(asked(&again).is_empty(), "{:?}", asked(&again));
}

#[tokio::test]
async fn a_suspend_that_was_made_before_the_crash_is_given_back_by_whoever_takes_it_up() {
    let entries = died(2, async |run| {
        hold(run).await;
        drop(run.call(restart("media")).await);
    })
    .await;
    let again = is_recovery(entries, Scripted::default(), Grants::default());
    let backend = again.backend.clone();
    let closing = again.run.finish(GuestExit::Died(None)).await;
    assert!(closing.is_whole() && closing.verdict == Verdict::NotFixed, "{closing:?}");
    assert!(backend.asked.lock().unwrap().contains(&"act suspend-flux.resume".to_owned()));
}
