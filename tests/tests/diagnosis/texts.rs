//! What programs other than ceph-csi's controller write, from their sources and from bug reports.

use salve_simulator::{Failure, Mover};
use std::time::Duration;

/// Longer than any cluster of the generator runs.
const ENDLESS: Duration = Duration::from_secs(48 * 3_600);

/// Returns a mover that copies data for as long as the cluster runs.
pub fn endless_copy() -> Mover {
    Mover::Copies(ENDLESS)
}

/// Returns a mover that fails with one of the texts of restic, rclone, or kopia.
pub fn failure(failure: Failure, text: usize) -> Mover {
    let logs = match failure {
        Failure::RepositoryLocked => [
            "unable to create lock in backend: repository is already locked exclusively by PID 48 \
             on volsync-src-app-x7k2p by root (UID 0, GID 0)\nlock was created at 2026-08-20 \
             03:00:12 (7h12m ago)\nthe `unlock` command can be used to remove stale locks",
            "Fatal: unable to create lock in backend: repository is already locked by PID 32 on \
             volsync-src-app-b7k4x by app (UID 65534, GID 65534)",
            "repo already locked, waiting up to 0s for the lock\nunable to create lock in backend: \
             repository is already locked by PID 12 on laptop by me (UID 1000, GID 1000)",
            "Fatal: unable to create lock in backend: repository is already locked exclusively",
        ],
        Failure::StoreUnreachable => [
            "Fatal: unable to open config file: Stat: Get \
             \"https://s3.example.org/volsync/?location=\": dial tcp: lookup s3.example.org on \
             10.43.0.10:53: no such host",
            "client.BucketExists: Get \"http://192.0.2.7:9000/volsync/?location=\": dial tcp \
             192.0.2.7:9000: connect: connection refused",
            "Fatal: unable to open repository at s3:https://s3.example.org/volsync: net/http: TLS \
             handshake timeout",
            "Failed to copy: Put \"https://s3.example.org/volsync/data\": tls: failed to verify \
             certificate: x509: certificate has expired or is not yet valid",
        ],
        Failure::AccessDenied => [
            "Fatal: unable to open config file: Stat: Access Denied.\nIs there a repository at the \
             following location?",
            "Fatal: unable to open config file: Stat: The Access Key Id you provided does not \
             exist in our records.",
            "Fatal: create key in repository at s3:https://s3.example.org/volsync failed: \
             client.PutObject: The request signature we calculated does not match the signature \
             you provided. Check your key and signing method.",
            "Failed to create file system: AccessDenied: 403 Forbidden",
        ],
        Failure::Other => [
            "Fatal: wrong password or no key found",
            "error: open /cache/tmp-1: no space left on device",
            "Fatal: unable to save snapshot: EOF",
            "panic: runtime error: index out of range",
        ],
    };
    Mover::Fails { failure, log: logs[text % logs.len()].to_owned() }
}

/// Returns a mover whose pod finds no node.
pub fn unscheduled(text: usize) -> Mover {
    let messages = [
        "0/3 nodes are available: 1 node(s) had volume node affinity conflict, 2 node(s) didn't \
         match Pod's node affinity/selector.",
        "0/3 nodes are available: 3 Insufficient memory.",
        "0/3 nodes are available: 3 node(s) had untolerated taint {dedicated: storage}.",
    ];
    Mover::Unscheduled { message: messages[text % messages.len()].to_owned() }
}

/// Returns a mover whose pod cannot mount a volume, without any lock.
pub fn mount_failure(text: usize) -> Mover {
    let messages = [
        "MountVolume.SetUp failed for volume \"repository\" : secret \"app-volsync-secret\" not \
         found",
        "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = Internal desc = \
         verifyMount: device already mounted at /var/lib/kubelet/pods/1",
        "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = Internal desc = \
         'fsck' found errors on device /dev/rbd0 but could not correct them",
    ];
    Mover::MountFails { message: messages[text % messages.len()].to_owned() }
}

/// Returns a mover whose image is not pulled.
pub fn missing_image(text: usize) -> Mover {
    let reasons = ["ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError"];
    Mover::ContainerWaits { reason: reasons[text % reasons.len()].to_owned() }
}

/// Returns a mover that VolSync does not start.
pub fn refused(text: usize) -> Mover {
    let messages = [
        "Secret \"app-volsync-secret\" not found",
        "missing field RESTIC_PASSWORD in repository Secret",
        "admission webhook \"policy.example.org\" denied the request",
    ];
    Mover::Refused { message: messages[text % messages.len()].to_owned() }
}

/// The errors of a driver that rejects a volume.
pub const REJECTIONS: [&str; 4] = [
    "rpc error: code = ResourceExhausted desc = quota of the pool is exceeded",
    "error getting handle for DataSource Type VolumeSnapshot by Name app: requested volume size \
     1073741824 is less than the size 5368709120 for the source snapshot",
    "rpc error: code = InvalidArgument desc = missing required parameter pool",
    "rpc error: code = OutOfRange desc = volume size 5Gi exceeds the limit",
];

/// The errors of a driver whose storage is still copying: `internal/cephfs/errors/errors.go` and
/// `internal/rbd/errors.go` of ceph-csi.
pub const COPYING: [&str; 4] = [
    "rpc error: code = Aborted desc = clone from snapshot is already in progress",
    "rpc error: code = Aborted desc = clone from snapshot is pending",
    "rpc error: code = Aborted desc = flatten in progress",
    "rpc error: code = Aborted desc = flatten in progress: flatten is in progress for image \
     csi-vol-34343434",
];

/// Unrelated lines in the log of the controller's plugin.
pub const NOISE: [&str; 4] = [
    "ID: 11 Req-ID: snapshot-12121212-1212-4212-8212-121212121212 GRPC error: rpc error: code = \
     NotFound desc = source Volume ID \
     0001-0009-rook-ceph-0000000000000002-deadbeef-0000-4000-8000-000000000000 not found",
    "ID: 12 Req-ID: pvc-34343434-3434-4434-8434-343434343434 GRPC error: rpc error: code = Aborted \
     desc = flatten in progress: flatten is in progress for image csi-vol-34343434",
    "ID: 13 Req-ID: pvc-56565656-5656-4656-8656-565656565656 GRPC error: rpc error: code = \
     AlreadyExists desc = a volume with the name pvc-56565656 already exists",
    "ID: 14 GRPC call: /csi.v1.Identity/Probe",
];

/// Drivers next to the one in question, with their StorageClasses.
pub const NEIGHBORS: [(&str, &str); 3] = [
    ("smb.csi.k8s.io", "smb"),
    ("ebs.csi.aws.com", "ebs"),
    // A second Ceph cluster.
    ("second.rbd.csi.ceph.com", "second-block"),
];
