//! Claims of success by a guest that fixed nothing. Each reports an observation that does not count,
//! or one that does and remains.

use salve_sdk::report::{Conclusion, Verdict};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::tail_logs::{self, Query, Workload, WorkloadKind};
use salve_sdk::{Error, ObjectRef, query_pvcs, run};

use crate::victim;

const CONTROLLER: &str = "csi-rbdplugin-provisioner";

/// Reports an observation, and concludes with `fixed`. The summary has the host's answer.
pub fn claim(how: &str) -> Result<Conclusion, Error> {
    let answer = match how {
        "claims-success-by-blank-pattern" => read_log("csi-rbdplugin", "zzz", None, 1 << 20)?,
        "claims-success-by-another-line" => read_log("csi-rbdplugin", ".", None, 300)?,
        "claims-success-by-the-end-of-the-log" => read_log("csi-rbdplugin", ".", Some(9), 1 << 20)?,
        "claims-success-by-another-container" => read_log("csi-provisioner", ".", None, 1 << 20)?,
        "claims-success-by-one-namespace" => {
            query_pvcs::list_pvcs(&["ai".into()])?;
            run::observed("locked-pvcs", run::last_entry())
        }
        "claims-success-by-another-entry" => run::observed("locks", 1),
        "claims-success-by-another-problem" => {
            query_pvcs::list_pvcs(&["media".into()])?;
            run::observed("everything", run::last_entry())
        }
        "claims-success-without-fixing" => read_log("csi-rbdplugin", "exists", None, 1 << 20)?,
        _ => return Err(Error::Invalid(format!("unknown attack: {how}"))),
    };
    // Something irrelevant, so that the run has written.
    drop(suspend(&[victim("media/plex")], "to have written something", 10)?);
    let answer = match answer {
        Ok(()) => "accepted".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    Ok(Conclusion::new(Verdict::Fixed, format!("trust me; {answer}")))
}

fn read_log(
    container: &str,
    pattern: &str,
    tail_lines: Option<u32>,
    limit_bytes: u32,
) -> Result<Result<(), Error>, Error> {
    let cursor = tail_logs::open(&Query {
        workload: Workload {
            kind: WorkloadKind::Deployment,
            object: ObjectRef::new("rook-ceph", CONTROLLER),
        },
        container: container.into(),
        since: None,
        tail_lines,
        limit_bytes,
        pattern: Some(pattern.into()),
    })?;
    cursor.next()?;
    Ok(run::observed("locks", run::last_entry()))
}
