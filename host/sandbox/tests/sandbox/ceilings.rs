//! Guests that exceed a limit: each is ended with the right error, and the run survives.

use crate::cluster::{Cluster, grants, run};
use crate::guests::Guest;
use salve_core::capability::Capability;
use salve_core::document::Limits;
use salve_core::outcome::Fault;
use salve_core::report::Diagnosis;
use salve_run::Mode;
use salve_sandbox::{GuestError, HANDLE_CEILING, Linking, Sandbox};
use std::time::Duration;

const SMALL: Limits = Limits { memory_mib: 1, fuel_billions: 1, ..Limits::DEFAULT };

/// Runs `diagnose` and checks that the run survives.
async fn diagnose(guest: &Guest) -> Result<Diagnosis, GuestError> {
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[Capability::TailLogs]));
    let result = guest.link(Linking::Every).unwrap().diagnose(&mut slot, "{}", SMALL).await;
    assert!(slot.is_some(), "the run is back in its slot");
    result
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel() {
    let error =
        diagnose(&Guest { diagnose: "(loop $l (br $l))", ..Guest::default() }).await.unwrap_err();
    assert!(matches!(error, GuestError::OutOfFuel { billions: 1, .. }), "{error:?}");
    assert_eq!(error.fault(), Some(Fault::Guest));
}

#[tokio::test]
async fn an_endless_loop_yields_to_a_deadline_and_the_run_survives() {
    let guest = Guest { diagnose: "(loop $l (br $l))", ..Guest::default() };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let linked = guest.link(Linking::Every).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let generous = Limits { memory_mib: 1, fuel_billions: 1000, ..Limits::DEFAULT };
    let ended =
        tokio::time::timeout(Duration::from_millis(50), linked.diagnose(&mut slot, "{}", generous))
            .await;
    assert!(ended.is_err(), "only the deadline can end it");
    assert!(slot.is_some());
}

#[tokio::test]
async fn an_endless_start_function_runs_out_of_fuel() {
    let error = diagnose(&Guest {
        items: "(func $spin (loop $l (br $l))) (start $spin)",
        ..Guest::default()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, GuestError::OutOfFuel { billions: 1, .. }), "{error:?}");
    assert!(error.to_string().ends_with("; stack: spin"), "{error}");
}

#[tokio::test]
async fn a_crash_caused_by_the_memory_limit_names_the_limit() {
    let grow = "(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))";
    let error = diagnose(&Guest { diagnose: grow, ..Guest::default() }).await.unwrap_err();
    assert!(matches!(error, GuestError::OutOfMemory { mib: 1, .. }), "{error:?}");
    assert_eq!(error.fault(), Some(Fault::Guest));

    let handles_denial =
        "(if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))";
    assert!(
        diagnose(&Guest { diagnose: handles_denial, ..Guest::default() }).await.is_ok(),
        "a guest may handle a denied allocation"
    );
    let just_fits = "(if (i32.eq (memory.grow (i32.const 15)) (i32.const -1)) (then unreachable))";
    assert!(
        diagnose(&Guest { diagnose: just_fits, ..Guest::default() }).await.is_ok(),
        "1 MiB is 16 pages, and the guest starts with one"
    );
}

#[tokio::test]
async fn a_crash_caused_by_the_table_limit_names_the_limit() {
    let guest = Guest {
        items: "(table $t 1 funcref)",
        diagnose: "(if (i32.eq (table.grow $t (ref.null func) (i32.const 20000)) (i32.const -1))
                (then unreachable))",
        ..Guest::default()
    };
    assert!(matches!(diagnose(&guest).await.unwrap_err(), GuestError::TableTooLarge { .. }));
}

#[tokio::test]
async fn endless_recursion_overflows_the_stack() {
    let guest = Guest {
        items: "(func $deeper (call $deeper))",
        diagnose: "(call $deeper)",
        ..Guest::default()
    };
    let error = diagnose(&guest).await.unwrap_err();
    assert!(
        matches!(
            &error,
            GuestError::StackOverflow { backtrace }
                if backtrace.iter().any(|function| function.contains("deeper"))
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("; stack: deeper (64 times)"), "{error}");
}

const NOTE: &str = r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))"#;

#[tokio::test]
async fn a_string_beyond_the_call_limit_is_not_copied() {
    // A string of 1 MiB and one byte, in a memory that is large enough for it.
    let roomy = Limits { memory_mib: 4, fuel_billions: 1, ..Limits::DEFAULT };
    let guest = Guest {
        imports: NOTE,
        diagnose: "(drop (memory.grow (i32.const 32)))
            (call $note (i32.const 0) (i32.const 0) (i32.const 1048577))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let error =
        guest.link(Linking::Every).unwrap().diagnose(&mut slot, "{}", roomy).await.unwrap_err();
    assert_eq!((&error, error.fault()), (&GuestError::CallTooLarge, Some(Fault::Guest)));
    assert_eq!(slot.unwrap().last_entry(), 0, "the call did not reach the run");
}

#[tokio::test]
async fn a_string_beyond_the_end_of_memory_is_the_guests_fault() {
    let guest = Guest {
        imports: NOTE,
        diagnose: "(call $note (i32.const 0) (i32.const 65000) (i32.const 1000))",
        ..Guest::default()
    };
    let error = diagnose(&guest).await.unwrap_err();
    assert!(
        matches!(&error, GuestError::Trap { .. }) && error.fault() == Some(Fault::Guest),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_result_beyond_the_limit_is_rejected() {
    // Returns `ok` with an incident and a summary of 5000 bytes.
    let guest = Guest {
        diagnose: "(i32.store (i32.const 1032) (i32.const 2048))
            (i32.store (i32.const 1036) (i32.const 5000))",
        ..Guest::default()
    };
    let error = diagnose(&guest).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest returned too much: `summary` of the diagnosis has 5000 bytes, at most 4096"
    );
}

#[tokio::test]
async fn exceeding_the_handle_limit_is_an_error_and_not_a_crash() {
    // Opens cursors until one is rejected, then returns their number as the length of its summary.
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open" (func $open
            (param i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))"#,
        items: r#"(data (i32.const 16) "media") (global $opened (mut i32) (i32.const 0))"#,
        diagnose: "(loop $l
            (call $open (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 16) (i32.const 5) (i32.const 0) (i64.const 0) (i32.const 0)
                (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 512))
            (if (i32.eqz (i32.load8_u (i32.const 512))) (then
                (global.set $opened (i32.add (global.get $opened) (i32.const 1))) (br $l))))
          (if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))
          (i32.store (i32.const 1032) (i32.const 2048))
          (i32.store (i32.const 1036) (global.get $opened))",
        ..Guest::default()
    };
    assert_eq!(diagnose(&guest).await.unwrap().summary.len(), HANDLE_CEILING as usize);
}
