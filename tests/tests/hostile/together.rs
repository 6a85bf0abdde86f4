//! Hostile guests at once, and beside others that mean well.

use super::{GuestExited, end, is_as_before};
use futures::future::{join, join_all};
use salve::arguments::GuestOptions;
use salve::cluster::ClusterSession;
use salve::guest::ResolvedGuest;
use salve::session::PreparedRun;
use salve_core::outcome::Fault;
use salve_core::report::Verdict;
use salve_run::{Mode, NoObserver};
use salve_simulator::{Incident, Simulator};
use std::collections::BTreeSet;

const HOSTILE: [&str; 9] =
    ["loop", "recurse", "copy", "calls", "flood", "hoard", "shout", "list", "everything"];
const HEALTHY: usize = 4;

#[tokio::test]
async fn a_run_beside_hostile_ones_is_fixed_and_each_keeps_its_own_record() {
    let folder = tempfile::tempdir().unwrap();
    let terms = GuestOptions::default();
    let healthy = (0..HEALTHY).map(|_| async {
        let ready =
            PreparedRun::prepare(ResolvedGuest::find("volsync-unlock", &terms).unwrap(), &terms)
                .await
                .unwrap();
        let open = ClusterSession::simulated(Simulator::new(Incident::Playbook)).await.unwrap();
        ready.run(Mode::Live, &open, Some(folder.path()), Box::new(NoObserver)).await.unwrap()
    });
    let (healthy, hostile) =
        join(join_all(healthy), join_all(HOSTILE.map(|how| end(how, Mode::Live)))).await;
    for over in &healthy {
        assert_eq!(over.closing.verdict, Verdict::Fixed, "{}", over.closing.summary);
    }
    for (how, GuestExited { over, simulator, .. }) in HOSTILE.iter().zip(&hostile) {
        assert_eq!(
            over.closing.verdict,
            Verdict::Failed(Fault::Guest),
            "{how}: {}",
            over.closing.summary
        );
        assert!(is_as_before(simulator), "{how}");
    }
    let files: BTreeSet<_> = healthy
        .iter()
        .chain(hostile.iter().map(|ended| &ended.over))
        .map(|over| over.file.clone().unwrap())
        .collect();
    assert_eq!(files.len(), HEALTHY + HOSTILE.len(), "no two runs share a file");
}
