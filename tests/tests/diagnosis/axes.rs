//! The axes, and how the clusters of a family are drawn from them.

use crate::random::Random;
use salve_simulator::{Failure, Neighbor, Operation};

/// Clusters that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The incident: the controller holds locks.
    Controller,
    /// Only the node plugin of a node holds locks.
    Node,
    /// Both hold locks.
    Both,
    /// Nothing is locked; backups do not finish for other reasons.
    Backups,
    /// Nothing is locked; the storage or its controllers have another problem.
    Storage,
    /// Nothing is locked now: the locks are of another driver, or were released.
    Neighbors,
    /// Logs cannot be read.
    Unreadable,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Node => "node",
            Self::Both => "both",
            Self::Backups => "backups",
            Self::Storage => "storage",
            Self::Neighbors => "neighbors",
            Self::Unreadable => "unreadable",
        }
    }

    fn has_node_locks(self) -> bool {
        matches!(self, Self::Node | Self::Both)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Rbd,
    CephFs,
    Nfs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installer {
    /// Rook 1.17 and older, and 1.18 and 1.19 without ceph-csi-operator.
    Rook,
    /// The same, with `CSI_ENABLE_OMAP_GENERATOR` and liveness metrics.
    RookWithOmapGenerator,
    /// Rook 1.18 and newer.
    RookWithOperator,
    /// ceph-csi-operator without Rook.
    Operator,
    Chart,
}

/// A lock in the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Creating volumes hangs.
    Volumes,
    /// Taking snapshots hangs.
    Snapshots,
    /// The volume is of a PVC that no longer exists.
    DeletedPvc,
    /// Of an existing volume or snapshot.
    Handle(Operation),
    /// Of a volume that was migrated from the in-tree driver.
    MigratedVolume,
    /// Of a group of snapshots.
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Kustomization,
    /// A Kustomization that a user suspended.
    SuspendedKustomization,
    HelmRelease,
    ResourceSet,
    ArgoAnnotation,
    ArgoLabel,
    /// Flux in another cluster.
    Hub,
    Manual,
}

/// What happens to a backup after its first sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    Healthy,
    /// Its first sync still runs.
    First,
    Long,
    Paused,
    /// Long, and without a snapshot.
    Direct,
    Syncthing,
    Fails(Failure),
    Unscheduled,
    MountFails,
    ImageMissing,
    /// VolSync reports an error before it starts the mover.
    Refused,
    /// Its PVC was deleted.
    Orphaned,
    /// Its PVC is deleted while its snapshot hangs, if it does.
    Terminating,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    pub app: usize,
    pub owner: Owner,
    pub state: BackupState,
    /// Whether it syncs every hour, or only at night.
    pub hourly: bool,
    /// Which of the texts for this state.
    pub text: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Fine,
    CephDown,
    NoSnapshotter,
    NoSnapshotController,
    ControllerScaledDown,
    /// The driver rejects the clone of a backup, with one of several errors.
    Rejects(usize),
    /// The storage is still copying the data of a snapshot.
    Copying(usize),
    OrphanSnapshot,
    WaitsForConsumer,
    ClassMissing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    None,
    /// The log of one controller pod, by number.
    Pod(usize),
    All,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Composition {
    pub driver: Driver,
    pub installer: Installer,
    /// The version of ceph-csi.
    pub version: (u32, u32),
    pub locks: Vec<Lock>,
    pub node_locks: bool,
    pub backups: Vec<Backup>,
    /// The number of new PVCs, created after the driver locked.
    pub new_pvcs: usize,
    pub storage: Storage,
    pub neighbor: Option<(usize, Neighbor)>,
    /// Minutes since the locks were released, if they were.
    pub released: Option<u64>,
    pub unreadable: Unreadable,
    /// Seconds by which the clock of this machine is ahead of the cluster's.
    pub skew: i64,
    /// Bits that select unrelated log lines.
    pub noise: usize,
    /// Minutes between the start of the cluster and the diagnosis.
    pub age: u64,
    /// For the UIDs of objects that do not exist.
    pub salt: u64,
}

/// Minor versions of ceph-csi 3. The texts changed in 3.17, which is drawn more often; groups of
/// snapshots exist since 3.11.
const VERSIONS: [u32; 12] = [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 17, 17];

const OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::Clone,
    Operation::Restore,
    Operation::Delete,
    Operation::Expand,
    Operation::Modify,
    Operation::Any,
];

const OWNERS: [Owner; 8] = [
    Owner::Kustomization,
    Owner::SuspendedKustomization,
    Owner::HelmRelease,
    Owner::ResourceSet,
    Owner::ArgoAnnotation,
    Owner::ArgoLabel,
    Owner::Hub,
    Owner::Manual,
];

/// The states of backups that no lock explains.
const STATES: [BackupState; 15] = [
    BackupState::Healthy,
    BackupState::First,
    BackupState::Long,
    BackupState::Paused,
    BackupState::Direct,
    BackupState::Syncthing,
    BackupState::Fails(Failure::RepositoryLocked),
    BackupState::Fails(Failure::StoreUnreachable),
    BackupState::Fails(Failure::AccessDenied),
    BackupState::Fails(Failure::Other),
    BackupState::Unscheduled,
    BackupState::MountFails,
    BackupState::ImageMissing,
    BackupState::Refused,
    BackupState::Orphaned,
];

/// Draws a cluster. The same arguments always return the same one.
pub fn draw(family: Family, seed: u64, number: u64) -> Composition {
    let mut random = Random::new(seed, family as u64, number);
    let driver = if family.has_node_locks() {
        // ceph-csi's NFS node plugin has no locks.
        random.pick(&[Driver::Rbd, Driver::CephFs])
    } else {
        random.pick(&[Driver::Rbd, Driver::CephFs, Driver::Nfs])
    };
    let mut composition = Composition {
        driver,
        installer: installer(driver, &mut random),
        version: (3, random.pick(&VERSIONS)),
        locks: Vec::new(),
        node_locks: family.has_node_locks(),
        backups: backups(family, &mut random),
        new_pvcs: random.below(3),
        storage: Storage::Fine,
        neighbor: None,
        released: None,
        unreadable: Unreadable::None,
        skew: random.pick(&[0, 0, 0, -600, -45, 45, 600]),
        noise: random.below(16),
        age: 220 + random.below(120) as u64,
        salt: random.next(),
    };
    match family {
        Family::Controller | Family::Both => {
            composition.locks = locks(driver, composition.version, &mut random)
        }
        Family::Node | Family::Backups => {}
        Family::Storage => composition.storage = storage(&mut random),
        Family::Neighbors => {
            if random.chance(40) {
                composition.locks = locks(driver, composition.version, &mut random);
                composition.released = Some(20 + random.below(30) as u64);
            }
            if composition.released.is_none() || random.chance(30) {
                let neighbor = random.pick(&[Neighbor::Locked, Neighbor::Slow]);
                composition.neighbor = Some((random.below(3), neighbor));
            }
        }
        Family::Unreadable => {
            if random.chance(60) {
                composition.locks = locks(driver, composition.version, &mut random);
            }
            composition.unreadable =
                random.pick(&[Unreadable::Pod(0), Unreadable::Pod(1), Unreadable::All]);
        }
    }
    if composition.locks.contains(&Lock::Snapshots) {
        // A snapshot must be due.
        let app = (composition.backups[0].app + APPS.len() - 1) % APPS.len();
        composition.backups.insert(0, healthy(app));
    }
    composition
}

fn installer(driver: Driver, random: &mut Random) -> Installer {
    let all = [
        Installer::Rook,
        Installer::RookWithOmapGenerator,
        Installer::RookWithOperator,
        Installer::Operator,
        Installer::Chart,
    ];
    match driver {
        Driver::Rbd => random.pick(&all),
        // There is no omap generator, and for NFS no chart.
        Driver::CephFs => random.pick(&[all[0], all[2], all[3], all[4]]),
        Driver::Nfs => random.pick(&[all[0], all[2], all[3]]),
    }
}

fn locks(driver: Driver, version: (u32, u32), random: &mut Random) -> Vec<Lock> {
    let mut locks = Vec::new();
    for _ in 0..1 + random.below(3) {
        let operation = random.pick(&OPERATIONS);
        let operation = if operation == Operation::Modify && version < (3, 17) {
            Operation::Expand
        } else {
            operation
        };
        let mut choices = vec![
            Lock::Volumes,
            Lock::Volumes,
            Lock::Snapshots,
            Lock::Snapshots,
            Lock::DeletedPvc,
            Lock::Handle(operation),
            Lock::Handle(operation),
        ];
        if driver == Driver::Rbd {
            choices.push(Lock::MigratedVolume);
        }
        if driver != Driver::Nfs && version >= (3, 11) {
            choices.push(Lock::Group);
        }
        let lock = random.pick(&choices);
        if !locks.contains(&lock) {
            locks.push(lock);
        }
    }
    locks
}

fn storage(random: &mut Random) -> Storage {
    let (rejects, copying) = (random.below(4), random.below(4));
    random.pick(&[
        Storage::CephDown,
        Storage::NoSnapshotter,
        Storage::NoSnapshotController,
        Storage::ControllerScaledDown,
        Storage::Rejects(rejects),
        Storage::Rejects(rejects),
        Storage::Copying(copying),
        Storage::OrphanSnapshot,
        Storage::WaitsForConsumer,
        Storage::ClassMissing,
    ])
}

fn backups(family: Family, random: &mut Random) -> Vec<Backup> {
    let mut backups: Vec<Backup> = Vec::new();
    let count = 1 + random.below(4);
    let first = random.below(APPS.len());
    for number in 0..count {
        let owner = random.pick(&OWNERS);
        let state = if random.chance(40) && family != Family::Backups {
            random.pick(&[BackupState::Healthy, BackupState::Healthy, BackupState::Terminating])
        } else {
            random.pick(&STATES)
        };
        backups.push(Backup {
            app: (first + number) % APPS.len(),
            owner,
            state,
            hourly: random.chance(70),
            text: random.below(4),
        });
    }
    if family.has_node_locks() || family == Family::Storage {
        // Something must use the node, or the driver.
        backups.push(healthy((first + count) % APPS.len()));
    }
    backups
}

fn healthy(app: usize) -> Backup {
    let (owner, state) = (Owner::Kustomization, BackupState::Healthy);
    Backup { app, owner, state, hourly: true, text: 0 }
}

/// Namespaces and names of apps.
pub const APPS: [(&str, &str); 10] = [
    ("media", "plex"),
    ("media", "radarr"),
    ("media", "tautulli"),
    ("home-automation", "zigbee2mqtt"),
    ("home-automation", "node-red"),
    ("ai", "ollama"),
    ("observability", "gatus"),
    ("security", "vaultwarden"),
    ("selfhosted", "paperless"),
    ("selfhosted", "n8n"),
];
