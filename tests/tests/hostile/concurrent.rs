//! Hostile guests run concurrently with each other and with well-behaved guests.

use super::{CompletedRun, attack, is_restored};
use futures::future::{join, join_all};
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::{Frontend, PreparedRun};
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_run::Mode;
use salve_simulator::{Incident, Simulator};
use std::collections::BTreeSet;

const ATTACKS: [&str; 9] =
    ["loop", "recurse", "copy", "calls", "flood", "hoard", "shout", "list", "everything"];
const WELL_BEHAVED: usize = 4;

#[tokio::test]
async fn runs_next_to_hostile_guests_are_fixed_and_have_their_own_run_files() {
    let folder = tempfile::tempdir().unwrap();
    let options = GuestOptions::default();
    let well_behaved = (0..WELL_BEHAVED).map(|_| async {
        let prepared = PreparedRun::prepare(
            ResolvedGuest::resolve("volsync-unlock", &options).unwrap(),
            &options,
        )
        .await
        .unwrap();
        let session = ClusterSession::simulated(Simulator::new(Incident::Playbook)).await.unwrap();
        prepared.run(Mode::Live, &session, Some(folder.path()), Frontend::none()).await.unwrap()
    });
    let (well_behaved, hostile) =
        join(join_all(well_behaved), join_all(ATTACKS.map(|how| attack(how, Mode::Live)))).await;
    for finished in &well_behaved {
        assert_eq!(finished.result.verdict, Verdict::Fixed, "{}", finished.result.summary);
    }
    for (how, CompletedRun { finished, simulator, .. }) in ATTACKS.iter().zip(&hostile) {
        assert_eq!(
            finished.result.verdict,
            Verdict::Failed(Fault::Guest),
            "{how}: {}",
            finished.result.summary
        );
        assert!(is_restored(simulator), "{how}");
    }
    let files: BTreeSet<_> = well_behaved
        .iter()
        .chain(hostile.iter().map(|completed| &completed.finished))
        .map(|finished| finished.file.clone().unwrap())
        .collect();
    assert_eq!(files.len(), WELL_BEHAVED + ATTACKS.len(), "no two runs share a file");
}
