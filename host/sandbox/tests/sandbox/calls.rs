//! Calls of a guest: how they are translated and answered, and that the run survives every outcome.

use crate::cluster::{Cluster, grants, run, stoppable};
use crate::guests::Guest;
use salve_core::capability::{Capability, Read, Reversal};
use salve_core::document::Limits;
use salve_core::outcome::{Error, Fault};
use salve_core::report::{Concluded, Description};
use salve_run::{Halt, Mode, Run, Stop};
use salve_sandbox::{GuestError, Linked, Linking, Sandbox};
use std::task::Poll;

fn limits() -> Limits {
    Limits::default()
}

fn linked(guest: &Guest) -> Linked {
    Sandbox::new(None).unwrap().load(&guest.component()).unwrap().link(Linking::Every).unwrap()
}

fn open_reversals(slot: Option<Run>) -> Vec<&'static str> {
    slot.unwrap().open_reversals().iter().map(Reversal::name).collect()
}

const SUSPEND: &str = r#"
    (import "salve:cluster/suspend-flux@0.1.0" "suspend"
        (func $suspend (param i32 i32 i32 i32 i32 i32)))
    (import "salve:cluster/reversals@0.1.0" "[method]reversal.release"
        (func $release (param i32 i32)))
    (import "salve:cluster/reversals@0.1.0" "[resource-drop]reversal"
        (func $drop (param i32)))"#;
const NAMES: &str = r#"(data (i32.const 16) "media")"#;
/// Suspends media/media and stores the handle at 516.
macro_rules! suspends {
    ($then:literal) => {
        concat!(
            "(i32.store (i32.const 132) (i32.const 16)) (i32.store (i32.const 136) (i32.const 5))
             (i32.store (i32.const 140) (i32.const 16)) (i32.store (i32.const 144) (i32.const 5))
             (call $suspend (i32.const 128) (i32.const 1) (i32.const 16) (i32.const 5)
                 (i32.const 1) (i32.const 512))
             (if (i32.load8_u (i32.const 512)) (then unreachable))
             (if (i32.load8_u (i32.load (i32.const 516))) (then unreachable))
             (i32.store (i32.const 516) (i32.load offset=4 (i32.load (i32.const 516))))",
            $then
        )
    };
}

const LIST_PVCS: &str = r#"(import "salve:cluster/query-pvcs@0.1.0" "list-pvcs"
        (func $list-pvcs (param i32 i32 i32)))"#;
/// Lists the PVCs of the namespace whose name is at 16, with this length. The result is at 512.
macro_rules! list_pvcs {
    ($length:literal, $then:literal) => {
        concat!(
            "(i32.store (i32.const 256) (i32.const 16)) (i32.store (i32.const 260) (i32.const ",
            $length,
            ")) (call $list-pvcs (i32.const 256) (i32.const 1) (i32.const 512))",
            $then
        )
    };
}

#[tokio::test]
async fn a_response_of_the_cluster_reaches_the_guest_field_by_field() {
    // Expects `ok` with one PVC and returns its name (the second string of the first field) as
    // summary.
    let guest = Guest {
        imports: LIST_PVCS,
        items: NAMES,
        diagnose: list_pvcs!(
            "5",
            "(if (i32.load8_u (i32.const 512)) (then unreachable))
             (if (i32.ne (i32.load (i32.const 520)) (i32.const 1)) (then unreachable))
             (i64.store (i32.const 1032) (i64.load offset=8 (i32.load (i32.const 516))))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[Capability::QueryPvcs]));
    let diagnosis = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(diagnosis.summary, "plex");
    assert!(matches!(
        &cluster.reads.lock().unwrap()[..],
        [Read::ListPvcs(call)] if call.namespaces == ["media"]
    ));
    assert_eq!(slot.unwrap().last_entry(), 1);
}

#[tokio::test]
async fn a_denial_is_returned_to_the_guest_and_is_not_a_trap() {
    // Expects an error whose case is 0, `denied`.
    let guest = Guest {
        imports: LIST_PVCS,
        items: NAMES,
        diagnose: list_pvcs!(
            "5",
            "(if (i32.ne (i32.load8_u (i32.const 512)) (i32.const 1)) (then unreachable))
             (if (i32.load8_u (i32.const 516)) (then unreachable))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
    assert!(cluster.reads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_invalid_name_is_rejected_before_anything_is_sent() {
    let guest = Guest {
        imports: LIST_PVCS,
        items: r#"(data (i32.const 16) "a/../b")"#,
        diagnose: list_pvcs!(
            "6",
            "(if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[Capability::QueryPvcs]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
    assert!(cluster.reads.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_error_that_the_guest_returns_is_not_a_crash() {
    // Returns `err` with case 1, `not-found`, and the text "media".
    let returns_error = "(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1028) (i32.const 1))
               (i32.store (i32.const 1032) (i32.const 16))
               (i32.store (i32.const 1036) (i32.const 5))";
    let guest = Guest { items: NAMES, diagnose: returns_error, ..Guest::default() };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let error = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert_eq!(
        (&error, error.fault()),
        (&GuestError::Returned(Error::NotFound("media".into())), Some(Fault::Cluster))
    );
}

#[tokio::test]
async fn a_trap_has_a_backtrace_and_the_note_right_before_it() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))
                    (import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))"#,
        items: r#"(data (i32.const 16) "media") (func $crash unreachable)"#,
        diagnose: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) (call $crash)",
        remediate: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) (drop (call $now))
            (call $crash)",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let error = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    let GuestError::Trap { message, backtrace, last_note } = &error else { panic!("{error:?}") };
    assert!(message.contains("unreachable"), "{message}");
    assert!(backtrace[0].contains("crash"), "{backtrace:?}");
    assert_eq!(last_note.as_deref(), Some("media"));
    let text = error.to_string();
    assert!(text.starts_with("guest crashed: media (wasm trap: "), "{text}");
    assert!(text.contains("; stack: crash <- "), "{text}");

    let error = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(error, GuestError::Trap { last_note: None, .. }),
        "other calls came after the note"
    );
}

#[tokio::test]
async fn a_suspension_stays_in_the_run_after_a_trap() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!("unreachable"),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&[Capability::SuspendFlux]));
    assert!(matches!(
        linked(&guest).remediate(&mut slot, "{}", limits()).await,
        Err(GuestError::Trap { .. })
    ));
    assert_eq!(cluster.sent(), ["suspend-flux.suspend"]);
    assert_eq!(open_reversals(slot), ["suspend-flux.resume", "cluster-lock.release"]);
}

#[tokio::test]
async fn releasing_twice_and_dropping_sends_one_request() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!(
            "(call $release (i32.load (i32.const 516)) (i32.const 600))
             (if (i32.load8_u (i32.const 600)) (then unreachable))
             (call $release (i32.load (i32.const 516)) (i32.const 600))
             (if (i32.load8_u (i32.const 600)) (then unreachable))
             (call $drop (i32.load (i32.const 516)))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&[Capability::SuspendFlux]));
    let conclusion = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(conclusion.verdict, Concluded::Fixed);
    assert_eq!(cluster.sent(), ["suspend-flux.suspend", "suspend-flux.resume"]);
    assert_eq!(open_reversals(slot), ["cluster-lock.release"]);
}

#[tokio::test]
async fn a_guest_learns_who_took_over_what_it_releases() {
    // Returns the text of the release's answer as summary.
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!(
            "(call $release (i32.load (i32.const 516)) (i32.const 600))
             (if (i32.load8_u (i32.const 600)) (then unreachable))
             (if (i32.eqz (i32.load8_u (i32.const 604))) (then unreachable))
             (i64.store (i32.const 1032) (i64.load (i32.const 608)))"
        ),
        ..Guest::default()
    };
    let cluster = Cluster { taken_over: Some("kubectl"), ..Cluster::default() };
    let mut slot = run(&cluster, Mode::Live, grants(&[Capability::SuspendFlux]));
    let conclusion = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(conclusion.summary, "kubectl");
}

#[tokio::test]
async fn dropping_a_reversal_releases_it() {
    let guest = Guest {
        imports: SUSPEND,
        items: NAMES,
        remediate: suspends!("(call $drop (i32.load (i32.const 516)))"),
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Live, grants(&[Capability::SuspendFlux]));
    linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap();
    assert_eq!(cluster.sent(), ["suspend-flux.suspend", "suspend-flux.resume"]);
}

#[tokio::test]
async fn an_unknown_handle_is_the_guests_fault() {
    let guest =
        Guest { imports: SUSPEND, remediate: "(call $drop (i32.const 77))", ..Guest::default() };
    let mut slot = run(&Cluster::default(), Mode::Live, grants(&[Capability::SuspendFlux]));
    let error = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(&error, GuestError::Trap { .. }) && error.fault() == Some(Fault::Guest),
        "{error:?}"
    );
    assert!(slot.is_some());
}

#[tokio::test]
async fn a_cursor_continues_after_its_last_page() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open"
                (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))
                    (import "salve:cluster/tail-logs@0.1.0" "[method]cursor.next"
                        (func $next (param i32 i32)))"#,
        items: NAMES,
        diagnose:
            "(call $open (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 16) (i32.const 5)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 1024)
                (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (call $next (i32.load (i32.const 516)) (i32.const 600))
            (call $next (i32.load (i32.const 516)) (i32.const 600))",
        ..Guest::default()
    };
    let cluster = Cluster::default();
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[Capability::TailLogs]));
    linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap();
    let reads = cluster.reads.lock().unwrap();
    let [Read::NextPage(first), Read::NextPage(second)] = &reads[..] else { panic!("{reads:?}") };
    assert!(first.after.is_empty());
    assert_eq!(second.after[0].ordinal, 1);
}

#[tokio::test]
async fn opening_a_cursor_rejects_a_limit_out_of_range() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open"
                (func $open (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))"#,
        items: NAMES,
        // `limit-bytes` is 0.
        diagnose:
            "(call $open (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 16) (i32.const 5)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 512))
            (if (i32.ne (i32.load8_u (i32.const 512)) (i32.const 1)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[Capability::TailLogs]));
    assert!(linked(&guest).diagnose(&mut slot, "{}", limits()).await.is_ok());
}

#[tokio::test]
async fn a_stop_and_the_end_of_a_plan_are_not_a_fault() {
    let guest =
        Guest { imports: SUSPEND, items: NAMES, remediate: suspends!(""), ..Guest::default() };
    let stop = Stop::default();
    stop.request();
    let mut slot =
        stoppable(&Cluster::default(), Mode::Live, grants(&[Capability::SuspendFlux]), stop);
    let error = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert_eq!((&error, error.fault()), (&GuestError::Halted(Halt::Stopped), None));

    let guest = Guest {
        imports: concat!(
            r#"(import "salve:cluster/suspend-flux@0.1.0" "suspend"
                    (func $suspend (param i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/run@0.1.0" "sleep" (func $sleep (param i64)))"#
        ),
        items: NAMES,
        remediate: suspends!("(call $sleep (i64.const 1000))"),
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Plan, grants(&[Capability::SuspendFlux]));
    let error = linked(&guest).remediate(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(matches!(error, GuestError::Halted(Halt::PlanEnds(_))), "{error:?}");
}

#[tokio::test]
async fn invalid_arguments_end_the_guest_where_no_error_can_be_returned() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "sleep" (func $sleep (param i64)))"#,
        diagnose: "(call $sleep (i64.const -1))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let error = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(error, GuestError::InvalidCall { call: "run.sleep", .. })
            && error.fault() == Some(Fault::Guest),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_panic_in_the_host_is_salves_fault_and_the_run_survives() {
    let guest = Guest {
        imports: LIST_PVCS,
        items: NAMES,
        diagnose: list_pvcs!("5", ""),
        ..Guest::default()
    };
    let cluster = Cluster { broken: true, ..Cluster::default() };
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[Capability::QueryPvcs]));
    let error = linked(&guest).diagnose(&mut slot, "{}", limits()).await.unwrap_err();
    assert!(
        matches!(&error, GuestError::Host(text) if text.contains("the fake cluster is broken")),
        "{error:?}"
    );
    assert_eq!(error.fault(), Some(Fault::Host));
    assert!(slot.is_some());
}

#[tokio::test]
async fn dropping_a_pending_call_returns_the_run() {
    let guest = Guest {
        imports: LIST_PVCS,
        items: NAMES,
        diagnose: list_pvcs!("5", ""),
        ..Guest::default()
    };
    let cluster = Cluster { silent: true, ..Cluster::default() };
    let linked = linked(&guest);
    let mut slot = run(&cluster, Mode::Diagnosis, grants(&[Capability::QueryPvcs]));
    {
        let mut call = std::pin::pin!(linked.diagnose(&mut slot, "{}", Limits::default()));
        let reads = std::future::poll_fn(|context| {
            assert!(call.as_mut().poll(context).is_pending());
            Poll::Ready(cluster.reads.lock().unwrap().len())
        })
        .await;
        assert_eq!(reads, 1, "the call waits for the cluster");
    }
    assert!(slot.is_some());
}

#[tokio::test]
async fn the_configuration_reaches_the_guest_unchanged() {
    // Returns `ok` with its configuration as summary.
    let guest = Guest {
        diagnose: "(i32.store (i32.const 1032) (local.get $config))
            (i32.store (i32.const 1036) (local.get $length))",
        ..Guest::default()
    };
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let config = r#"{"namespaces":["média"]}"#;
    assert_eq!(linked(&guest).diagnose(&mut slot, config, limits()).await.unwrap().summary, config);
}

#[test]
fn ungranted_writes_are_refused_together_and_reads_are_always_linked() {
    use Capability::{ReconcileFlux, SuspendFlux};
    let guest = Guest {
        imports: concat!(
            r#"(import "salve:cluster/suspend-flux@0.1.0" "suspend"
                    (func $suspend (param i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/reconcile-flux@0.1.0" "reconcile"
                    (func $reconcile (param i32 i32 i32 i32 i32 i32 i32 i32)))"#,
            r#"(import "salve:cluster/query-pvcs@0.1.0" "list-pvcs"
                    (func $list-pvcs (param i32 i32 i32)))"#
        ),
        remediate: "(if (local.get $length) (then
            (call $reconcile (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0) (i32.const 512))
            (call $suspend (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 512))
            (call $list-pvcs (i32.const 0) (i32.const 0) (i32.const 512))))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let refused = |capabilities: &[Capability]| {
        guest.link(Linking::Granted(&grants(capabilities))).err().map(|e| e.capabilities)
    };
    let mut all = refused(&[]).unwrap();
    all.sort_unstable();
    assert_eq!(all, [SuspendFlux, ReconcileFlux]);
    assert_eq!(refused(&[SuspendFlux]), Some(vec![ReconcileFlux]));
    assert_eq!(refused(&[SuspendFlux, ReconcileFlux]), None);
    assert!(guest.link(Linking::Every).is_ok());
}

#[test]
fn reversals_need_no_grant() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/reversals@0.1.0" "[method]reversal.release"
                (func $release (param i32 i32)))"#,
        remediate: "(call $release (i32.const 1) (i32.const 512))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    assert!(guest.link(Linking::Granted(&grants(&[]))).is_ok());
}

#[tokio::test]
async fn describe_needs_no_capability() {
    let guest = Guest {
        items: NAMES,
        describe: "(i32.store (i32.const 1024) (i32.const 16))
            (i32.store (i32.const 1028) (i32.const 5))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let description = guest.describe(limits()).await.unwrap();
    assert_eq!(description, Description { name: "media".into(), ..Description::default() });
}

#[tokio::test]
async fn describe_ends_at_the_first_call() {
    let reads = Guest {
        imports: LIST_PVCS,
        items: NAMES,
        describe: list_pvcs!("5", ""),
        ..Guest::default()
    };
    let error = Sandbox::new(None)
        .unwrap()
        .load(&reads.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, GuestError::Trap { message, .. } if message.contains("query-pvcs")),
        "{error:?}"
    );
    assert_eq!(error.fault(), Some(Fault::Guest));

    let reads_clock = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "now" (func $now (result i64)))"#,
        describe: "(drop (call $now))",
        ..Guest::default()
    };
    let error = Sandbox::new(None)
        .unwrap()
        .load(&reads_clock.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            GuestError::Trap { message, .. } if message.contains("run.now in `describe`")
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_panic_in_describe_keeps_its_message() {
    let guest = Guest {
        imports: r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))"#,
        items: NAMES,
        describe: "(call $note (i32.const 1) (i32.const 16) (i32.const 5)) unreachable",
        ..Guest::default()
    };
    let error = Sandbox::new(None)
        .unwrap()
        .load(&guest.component())
        .unwrap()
        .describe(limits())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, GuestError::Trap { last_note: Some(note), .. } if note == "media"),
        "{error:?}"
    );
}

#[test]
fn calls_are_send() {
    fn assert_send<T: Send>(_: &T) {}
    let linked = linked(&Guest::default());
    let mut slot = None;
    // Never polled: only the types matter.
    assert_send(&linked.diagnose(&mut slot, "{}", limits()));
    assert_send(&linked.remediate(&mut slot, "{}", limits()));
}
