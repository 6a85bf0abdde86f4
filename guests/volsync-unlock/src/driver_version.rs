//! The version of the driver, and what it implies for locks.

use salve_sdk::report::Finding;

use crate::evidence::Observation;

/// The minor versions of ceph-csi 3 whose lock messages [`LockKey`](crate::lock::LockKey)
/// recognizes.
const KNOWN: std::ops::RangeInclusive<u32> = 8..=17;

/// Tags of images that are built from the development branch.
const DEVELOPMENT: [&str; 3] = ["canary", "devel", "latest"];

/// Reports the version of the driver. `None` if its image does not show it.
pub fn finding(observation: &Observation) -> Option<Finding> {
    let controller = observation.driver.controller.as_ref()?;
    describe(&controller.image).map(Finding::new)
}

fn describe(image: &str) -> Option<String> {
    let (repository, tag) = image.split('@').next()?.rsplit_once(':')?;
    if !repository.ends_with("cephcsi") {
        return None;
    }
    let later = "since 2026-07-06, ceph-csi's development branch does not lock the snapshot that a \
                 restore reads; if this version has that change, a locked snapshot has another \
                 cause";
    if DEVELOPMENT.contains(&tag) {
        return Some(format!("the driver is a development build (ceph-csi {tag}): {later}"));
    }
    let mut numbers = tag.strip_prefix('v').unwrap_or(tag).split('.');
    let major: u32 = numbers.next()?.parse().ok()?;
    let minor: u32 = numbers.next()?.parse().ok()?;
    let implied = match (major, minor) {
        (3, minor) if KNOWN.contains(&minor) => {
            "a restore that hangs locks its snapshot until the driver is restarted".to_owned()
        }
        (3, minor) if minor > *KNOWN.end() => {
            format!("newer than the versions that Salve knows (3.8 to 3.17); {later}")
        }
        (4.., _) => format!("newer than the versions that Salve knows (3.8 to 3.17); {later}"),
        _ => "older than the versions that Salve knows (3.8 to 3.17), so its locks may not be \
              recognized: update it"
            .to_owned(),
    };
    Some(format!("the driver is ceph-csi {tag}: {implied}"))
}

#[cfg(test)]
#[path = "tests/driver_version.rs"]
mod tests;
