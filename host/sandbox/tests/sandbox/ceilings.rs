//! Hostile guests: each is ended, told apart, and gives the run back.

use crate::cluster::{Cluster, grants, run};
use crate::guests::Guest;
use salve_core::document::Limits;
use salve_core::outcome::Fault;
use salve_core::report::Diagnosis;
use salve_run::Mode;
use salve_sandbox::{GuestEnd, HANDLE_CEILING, Linking, Sandbox};
use std::time::Duration;

const SMALL: Limits = Limits { memory_mib: 1, fuel_billions: 1, ..Limits::DEFAULT };

/// Runs `diagnose`; whatever comes of it, the run has to be there afterwards.
async fn diagnose(guest: &Guest) -> Result<Diagnosis, GuestEnd> {
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&["tail-logs"]));
    let end = guest.link(Linking::Every).unwrap().diagnose(&mut slot, "{}", SMALL).await;
    assert!(slot.is_some(), "the run came back");
    end
}

#[tokio::test]
async fn an_endless_loop_ends_when_its_fuel_is_used_up() {
    let end =
        diagnose(&Guest { diagnose: "(loop $l (br $l))", ..Guest::default() }).await.unwrap_err();
    assert_eq!((&end, end.fault()), (&GuestEnd::OutOfFuel { billions: 1 }, Some(Fault::Guest)));
}

#[tokio::test]
async fn an_endless_loop_yields_so_that_a_deadline_ends_it_and_the_run_is_kept() {
    let guest = Guest { diagnose: "(loop $l (br $l))", ..Guest::default() };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let linked = guest.link(Linking::Every).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let generous = Limits { memory_mib: 1, fuel_billions: 1000, ..Limits::DEFAULT };
    let ended =
        tokio::time::timeout(Duration::from_millis(50), linked.diagnose(&mut slot, "{}", generous))
            .await;
    assert!(ended.is_err(), "only the deadline can have ended it");
    assert!(slot.is_some());
}

#[tokio::test]
async fn an_endless_start_function_counts_too() {
    let end = diagnose(&Guest {
        items: "(func $spin (loop $l (br $l))) (start $spin)",
        ..Guest::default()
    })
    .await
    .unwrap_err();
    assert_eq!(end, GuestEnd::OutOfFuel { billions: 1 });
}

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_and_named_when_the_guest_breaks_of_it() {
    let grow = "(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))";
    let end = diagnose(&Guest { diagnose: grow, ..Guest::default() }).await.unwrap_err();
    assert_eq!((&end, end.fault()), (&GuestEnd::Memory { mib: 1 }, Some(Fault::Guest)));

    let copes = "(if (i32.ne (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))";
    assert!(
        diagnose(&Guest { diagnose: copes, ..Guest::default() }).await.is_ok(),
        "a refusal that the guest copes with is none"
    );
    let just_fits = "(if (i32.eq (memory.grow (i32.const 15)) (i32.const -1)) (then unreachable))";
    assert!(
        diagnose(&Guest { diagnose: just_fits, ..Guest::default() }).await.is_ok(),
        "1 MiB is 16 pages, one is there"
    );
}

#[tokio::test]
async fn a_table_beyond_the_ceiling_is_refused() {
    let guest = Guest {
        items: "(table $t 1 funcref)",
        diagnose: "(if (i32.eq (table.grow $t (ref.null func) (i32.const 20000)) (i32.const -1)) (then unreachable))",
        ..Guest::default()
    };
    assert!(matches!(diagnose(&guest).await.unwrap_err(), GuestEnd::Tables { .. }));
}

#[tokio::test]
async fn endless_recursion_ends_at_the_stack() {
    let guest = Guest {
        items: "(func $deeper (call $deeper))",
        diagnose: "(call $deeper)",
        ..Guest::default()
    };
    let end = diagnose(&guest).await.unwrap_err();
    assert!(
        matches!(&end, GuestEnd::StackOverflow { backtrace } if backtrace.iter().any(|f| f.contains("deeper"))),
        "{end:?}"
    );
}

const NOTE: &str = r#"(import "salve:cluster/run@0.1.0" "note" (func $note (param i32 i32 i32)))"#;

#[tokio::test]
async fn a_string_beyond_the_ceiling_of_a_call_is_never_copied() {
    // Lengths as claimed, memory as large as it needs: 1 MiB and one byte.
    let two_mib = Limits { memory_mib: 4, fuel_billions: 1, ..Limits::DEFAULT };
    let guest = Guest {
        imports: NOTE,
        diagnose: "(drop (memory.grow (i32.const 32))) (call $note (i32.const 0) (i32.const 0) (i32.const 1048577))",
        ..Guest::default()
    };
    let guest = Sandbox::new(None).unwrap().load(&guest.component()).unwrap();
    let mut slot = run(&Cluster::default(), Mode::Diagnosis, grants(&[]));
    let end =
        guest.link(Linking::Every).unwrap().diagnose(&mut slot, "{}", two_mib).await.unwrap_err();
    assert_eq!((&end, end.fault()), (&GuestEnd::CallCeiling, Some(Fault::Guest)));
    assert_eq!(slot.unwrap().last_entry(), 0, "the door never saw it");
}

#[tokio::test]
async fn a_string_that_claims_more_than_the_memory_is_the_guests_fault() {
    let guest = Guest {
        imports: NOTE,
        diagnose: "(call $note (i32.const 0) (i32.const 65000) (i32.const 1000))",
        ..Guest::default()
    };
    let end = diagnose(&guest).await.unwrap_err();
    assert!(matches!(&end, GuestEnd::Trap { .. }) && end.fault() == Some(Fault::Guest), "{end:?}");
}

#[tokio::test]
async fn an_answer_beyond_the_ceiling_is_refused() {
    // ok, incident, and a sentence of 5000 bytes.
    let guest = Guest {
        diagnose: "(i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (i32.const 5000))",
        ..Guest::default()
    };
    let end = diagnose(&guest).await.unwrap_err();
    assert_eq!(
        end.to_string(),
        "the guest returned too much: the sentence of its diagnosis has 5000 bytes, at most 4096"
    );
}

#[tokio::test]
async fn handles_beyond_the_ceiling_are_an_error_and_no_crash() {
    // Opens cursors until one is refused, then tells how many there were by the length of its sentence.
    let guest = Guest {
        imports: r#"(import "salve:cluster/tail-logs@0.1.0" "open" (func $open
            (param i32 i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 i32 i32 i32 i32)))"#,
        items: r#"(data (i32.const 16) "media") (global $opened (mut i32) (i32.const 0))"#,
        diagnose: "(loop $l
            (call $open (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5) (i32.const 16) (i32.const 5)
                (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 1024) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 512))
            (if (i32.eqz (i32.load8_u (i32.const 512))) (then
                (global.set $opened (i32.add (global.get $opened) (i32.const 1))) (br $l))))
          (if (i32.ne (i32.load8_u (i32.const 516)) (i32.const 3)) (then unreachable))
          (i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (global.get $opened))",
        ..Guest::default()
    };
    assert_eq!(diagnose(&guest).await.unwrap().summary.len(), HANDLE_CEILING as usize);
}
