//! Calls through the door: translated, answered, and survived.

use crate::cluster::{Cluster, grants, run, stoppable};
use crate::guests::Guest;
use salve_core::document::Limits;
use salve_core::effect::Read;
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, Description};
use salve_run::{Halt, Mode, Stop};
use salve_sandbox::{GuestEnd, Linked, Linking, Sandbox};
use std::task::Poll;

fn limits() -> Limits {
    Limits::default()
}

fn linked(guest: &Guest) -> Linked {
    Sandbox::new(None).unwrap().load(&guest.component()).unwrap().link(Linking::Every).unwrap()
}

const SUSPEND: &str = r#"
    (import "salve:cluster/suspend-flux@0.1.0" "suspend" (func $suspend (param i32 i32 i32 i32 i32 i32)))
    (import "salve:cluster/suspend-flux@0.1.0" "[method]suspension.resume" (func $resume (param i32 i32)))
    (import "salve:cluster/suspend-flux@0.1.0" "[resource-drop]suspension" (func $drop (param i32)))"#;
const NAMES: &str = r#"(data (i32.const 16) "media")"#;
/// Suspends media/media and leaves the handle at 516.
macro_rules! suspends {
    ($then:literal) => {
        concat!(
            "(i32.store (i32.const 132) (i32.const 16)) (i32.store (i32.const 136) (i32.const 5))
             (i32.store (i32.const 140) (i32.const 16)) (i32.store (i32.const 144) (i32.const 5))
             (call $suspend (i32.const 128) (i32.const 1) (i32.const 16) (i32.const 5) (i32.const 1) (i32.const 512))
             (if (i32.load8_u (i32.const 512)) (then unreachable))
             (if (i32.load8_u (i32.load (i32.const 516))) (then unreachable))
             (i32.store (i32.const 516) (i32.load offset=4 (i32.load (i32.const 516))))",
            $then
        )
    };
}

const CLAIMS: &str =
    r#"(import "salve:cluster/query-pvcs@0.1.0" "claims" (func $claims (param i32 i32 i32)))"#;
/// Asks for the claims of the namespace whose name stands at 16 with this length; the answer is at 512.
macro_rules! pvcs {
    ($length:literal, $then:literal) => {
        concat!(
            "(i32.store (i32.const 256) (i32.const 16)) (i32.store (i32.const 260) (i32.const ",
            $length,
            ")) (call $claims (i32.const 256) (i32.const 1) (i32.const 512))",
            $then
        )
    };
}

#[tokio::test]
async fn an_answer_of_the_cluster_reaches_the_guest_field_by_field() {
    // ok; one claim; its name (second string of the first field) becomes the sentence.
    let guest = Guest {
        imports: CLAIMS,
        items: NAMES,
        diagnose: pvcs!(
            "5",
            "(if (i32.load8_u (i32.const 512)) (then unreachable))
             (if (i32.ne (i32.load (i32.const 520)) (i32.const 1)) (then unreachable))
             (i64.store (i32.const 1032) (i64.load offset=8 (i32.load (i32.const 516))))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&["query-pvcs"]));
    let diagnosis = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(diagnosis.summary, "plex");
    assert!(
        matches!(&cluster.looks.lock().unwrap()[..], [Read::ListPvcs(ask)] if ask.namespaces == ["media"])
    );
    assert_eq!(slot.unwrap().last_entry(), 1);
}

#[tokio::test]
async fn a_denial_is_an_answer_and_no_trap() {
    // error 0 is `denied`.
    let guest = Guest {
        imports: CLAIMS,
        items: NAMES,
        diagnose: pvcs!(
            "5",
            "(if (i32.ne (i32.load8_u (i32.const 512)) (i32.const 1)) (then unreachable)) (if (i32.load8_u (i32.const 516)) (then unreachable))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
    assert!(cluster.looks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_cannot_be_is_invalid_before_it_is_an_effect() {
    let guest = Guest {
        imports: CLAIMS,
        items: r#"(data (i32.const 16) "a/../b")"#,
        diagnose: pvcs!(
            "6",
            "(if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&["query-pvcs"]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
    assert!(cluster.looks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_guests_own_error_is_told_apart_from_a_break() {
    // err, not-found (1), "media".
    let local = "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1028) (i32.const 1))
               (i32.store (i32.const 1032) (i32.const 16)) (i32.store (i32.const 1036) (i32.const 5))";
    let guest = Guest { items: NAMES, diagnose: local, ..Guest::default() };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let end = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert_eq!(
        (&end, end.fault()),
        (&GuestEnd::Local(Error::NotFound("media".into())), Some(Fault::Cluster))
    );
}

#[tokio::test]
async fn a_trap_names_its_functions_and_the_note_just_before_it() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))
                    (import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))"#,
        items: r#"(data (i32.const 16) "media") (func $judge unreachable)"#,
        diagnose: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) (call $judge)",
        remediate: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) (drop (call $now)) (call $judge)",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let end = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    let GuestEnd::Trap { message, backtrace, last_note } = &end else { panic!("{end:?}") };
    assert!(message.contains("unreachable"), "{message}");
    assert!(backtrace[0].contains("judge"), "{backtrace:?}");
    assert_eq!(last_note.as_deref(), Some("media"));
    assert!(end.to_string().starts_with("the guest broke: media"), "{end}");

    let end = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(matches!(end, GuestEnd::Trap { last_note: None, .. }), "an older note is no last word");
}

#[tokio::test]
async fn a_suspension_is_still_in_the_run_after_a_trap() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!("unreachable"),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&["suspend-flux"]));
    assert!(matches!(
        linked(&guest).remediate(&mut slot, "{}", limits()).await,
        Err(GuestEnd::Trap { .. })
    ));
    assert_eq!(cluster.sent(), ["suspend-flux.suspend"]);
    assert_eq!(slot.unwrap().open().len(), 1);
}

#[tokio::test]
async fn resuming_twice_and_dropping_releases_once() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!(
            "(call $resume (i32.load (i32.const 516)) (i32.const 600)) (if (i32.load8_u (i32.const 600)) (then unreachable))
             (call $resume (i32.load (i32.const 516)) (i32.const 600)) (if (i32.load8_u (i32.const 600)) (then unreachable))
             (call $drop (i32.load (i32.const 516)))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&["suspend-flux"]));
    let conclusion = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(conclusion.verdict, Concluded::Fixed);
    assert_eq!(cluster.sent(), ["suspend-flux.suspend", "suspend-flux.resume"]);
    assert!(slot.unwrap().open().is_empty());
}

#[tokio::test]
async fn dropping_a_suspension_alone_releases_it() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!("(call $drop (i32.load (i32.const 516)))"),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&["suspend-flux"]));
    linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(cluster.sent(), ["suspend-flux.suspend", "suspend-flux.resume"]);
}

#[tokio::test]
async fn a_handle_that_was_never_given_is_the_guests_fault() {
    let guest =
        Guest { imports: SUSPEND, remediate: "(call $drop (i32.const 77))", ..Guest::default() };
    let mut slot = run(&Cluster::default(), Mode::Live, grants(&["suspend-flux"]));
    let end = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(matches!(&end, GuestEnd::Trap { .. }) && end.fault() == Some(Fault::Guest), "{end:?}");
    assert!(slot.is_some());
}

#[tokio::test]
async fn a_cursor_goes_on_where_its_last_page_ended() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))
                    (import "salve:cluster/tail-logs@0.1.0" "[method]cursor.next" (func $next (param i32 i32)))"#,
        items: NAMES,
        diagnose: "(call $open (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (call $next (i32.load (i32.const 516)) (i32.const 600)) (call $next (i32.load (i32.const 516)) (i32.const 600))",
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&["tail-logs"]));
    linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap();
    let looks = cluster.looks.lock().unwrap();
    let [Read::NextPage(first), Read::NextPage(second)] = &looks[..] else { panic!("{looks:?}") };
    assert!(first.after.is_empty());
    assert_eq!(second.after[0].ordinal, 1);
}

#[tokio::test]
async fn limits_out_of_range_are_refused_when_the_cursor_is_opened() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open" (func $open (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))"#,
        items: NAMES,
        // No byte a page.
        diagnose: "(call $open (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (if (i32.ne (i32.load8_u (i32.const 512)) (i32.const 1)) (then unreachable)) (if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&["tail-logs"]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
}

#[tokio::test]
async fn a_stop_and_the_end_of_a_plan_are_nobodys_fault() {
    let guest =
        Guest { imports: SUSPEND, items: NAMES, remediate: suspends!(""), ..Guest::default() };
    let stop = Stop::default();
    stop.request();
    let mut slot = stoppable(&Cluster::default(), Mode::Live, grants(&["suspend-flux"]), stop);
    let end = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert_eq!((&end, end.fault()), (&GuestEnd::Halted(Halt::Stopped), None));

    let guest = Guest {
        imports: concat!(
            r#"(import "salve:cluster/suspend-flux@0.1.0" "suspend" (func $suspend (param i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/run@0.1.0" "sleep" (func $sleep (param i64)))"#
        ),
        items: NAMES,
        remediate: suspends!("(call $sleep (i64.const 1000))"),
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Plan, grants(&["suspend-flux"]));
    let end = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(matches!(end, GuestEnd::Halted(Halt::PlanEnds(_))), "{end:?}");
}

#[tokio::test]
async fn nonsense_where_no_error_can_be_answered_ends_the_guest_as_its_fault() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "sleep" (func $sleep (param i64)))"#,
        diagnose: "(call $sleep (i64.const -1))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let end = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(end, GuestEnd::Misuse { call: "run.sleep", .. })
            && end.fault() == Some(Fault::Guest),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_panic_below_the_door_is_salves_fault_and_the_run_is_kept() {
    let guest =
        Guest { imports: CLAIMS, items: NAMES, diagnose: pvcs!("5", ""), ..Guest::default() };
    let cluster = Cluster { broken: true, ..Cluster::default() };
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&["query-pvcs"]));
    let end = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(&end, GuestEnd::Host(text) if text.contains("the table is broken")),
        "{end:?}"
    );
    assert_eq!(end.fault(), Some(Fault::Host));
    assert!(slot.is_some());
}

#[tokio::test]
async fn a_call_dropped_in_the_middle_of_an_answer_gives_the_run_back() {
    let guest =
        Guest { imports: CLAIMS, items: NAMES, diagnose: pvcs!("5", ""), ..Guest::default() };
    let cluster = Cluster { silent: true, ..Cluster::default() };
    let linked = linked(&guest);
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&["query-pvcs"]));
    {
        let mut call = std::pin::pin!(linked.diagnose(&mut slot, "{}", Limits::default()));
        let asked = std::future::poll_fn(|context| {
            assert!(call.as_mut().poll(context).is_pending());
            Poll::Ready(cluster.looks.lock().unwrap().len())
        })
        .await;
        assert_eq!(asked, 1, "it waits for the cluster");
    }
    assert!(slot.is_some());
}

#[tokio::test]
async fn the_configuration_reaches_the_guest_as_it_is() {
    // Answers `ok` with its configuration as the sentence.
    let guest = Guest {
        diagnose: "(i32.store (i32.const 1032) (local.get $config)) (i32.store (i32.const 1036) (local.get $length))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let config = r#"{"namespaces":["média"]}"#;
    assert_eq!(linked(&guest).diagnose(&mut slot, config, limits()).await.unwrap().summary, config);
}

#[test]
fn touches_that_nothing_grants_are_refused_all_at_once_and_looks_are_the_doors_business() {
    let guest = Guest {
        imports: concat!(
            r#"(import "salve:cluster/suspend-flux@0.1.0" "suspend" (func $suspend (param i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/reconcile-flux@0.1.0" "reconcile" (func $reconcile (param i32 i32 i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/query-pvcs@0.1.0" "claims" (func $claims (param i32 i32 i32)))"#
        ),
        remediate: "(if (local.get $length) (then
            (call $reconcile (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (call $suspend (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (call $claims (i32.const 0) (i32.const 0) (i32.const 512))))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let refused = |capabilities: &[&str]| {
        guest.link(Linking::Granted(&grants(capabilities))).err().map(|e| e.capabilities)
    };
    let mut all = refused(&[]).unwrap();
    all.sort_unstable();
    assert_eq!(all, ["reconcile-flux", "suspend-flux"]);
    assert_eq!(refused(&["suspend-flux"]), Some(vec!["reconcile-flux"]));
    assert_eq!(refused(&["suspend-flux", "reconcile-flux"]), None);
    assert!(guest.link(Linking::Every).is_ok());
}

#[tokio::test]
async fn describe_answers_without_anything_in_reach() {
    let guest = Guest {
        items: NAMES,
        describe: "(i32.store (i32.const 1024) (i32.const 16)) (i32.store (i32.const 1028) (i32.const 5))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let description = guest.describe(limits()).await.unwrap();
    assert_eq!(description, Description { name: "media".into(), ..Description::default() });
}

#[tokio::test]
async fn describe_ends_at_the_first_call() {
    let looks =
        Guest { imports: CLAIMS, items: NAMES, describe: pvcs!("5", ""), ..Guest::default() };
    let end = Sandbox::new(None)
        .unwrap()
        .load(&looks.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(&end, GuestEnd::Trap { message, .. } if message.contains("query-pvcs")),
        "{end:?}"
    );
    assert_eq!(end.fault(), Some(Fault::Guest));

    let tells_time = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))"#,
        describe: "(drop (call $now))",
        ..Guest::default()
    };
    let end = Sandbox::new(None)
        .unwrap()
        .load(&tells_time.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(&end, GuestEnd::Trap { message, .. } if message.contains("run.now in `describe`")),
        "{end:?}"
    );
}

#[tokio::test]
async fn a_panic_in_describe_keeps_its_words() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))"#,
        items: NAMES,
        describe: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) unreachable",
        ..Guest::default()
    };
    let end = Sandbox::new(None)
        .unwrap()
        .load(&guest.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(&end, GuestEnd::Trap { last_note: Some(words), .. } if words == "media"),
        "{end:?}"
    );
}

#[test]
fn a_call_can_be_handed_to_another_thread() {
    fn sendable<T: Send>(_: &T) {}
    let linked = linked(&Guest::default());
    let mut slot = None;
    // Not polled: only its type is asked.
    sendable(&linked.diagnose(&mut slot, "{}", limits()));
    sendable(&linked.remediate(&mut slot, "{}", limits()));
}
