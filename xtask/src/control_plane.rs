//! Builds the control plane of the stories: from the Go modules pinned in `tests/control-plane` into
//! `target/control-plane` of the repository, wherever `CARGO_TARGET_DIR` points.
//!
//! One program after the other, so that the machine stays usable; what is up to date costs Go's look at its cache.
//! The last act is to keep a copy of each `go.mod`: the build script of the stories compares them and switches the
//! stories on.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::go;

/// The version that the Kubernetes programs shall say they are; the pinned module's.
const KUBERNETES: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
                          -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";

/// A group of programs that share a `go.mod`: all in one would make their versions fight.
struct Group {
    folder: &'static str,
    linker: &'static str,
    programs: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 4] = [
    Group { folder: "etcd", linker: "", programs: &[("etcd", "go.etcd.io/etcd/server/v3")] },
    Group {
        folder: "kubernetes",
        linker: KUBERNETES,
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
    },
    Group { folder: "kwok", linker: "", programs: &[("kwok", "sigs.k8s.io/kwok/cmd/kwok")] },
    Group {
        folder: "flux",
        linker: "",
        programs: &[
            ("source-controller", "github.com/fluxcd/source-controller"),
            ("kustomize-controller", "github.com/fluxcd/kustomize-controller"),
        ],
    },
];

/// The group whose types become custom resource definitions.
const CRDS: &str = "crds";

/// The packages of those types.
const TYPES: [&str; 4] = [
    "github.com/fluxcd/source-controller/api/v1",
    "github.com/fluxcd/kustomize-controller/api/v1",
    "github.com/fluxcd/helm-controller/api/v2",
    "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1",
];

/// Builds whatever is not up to date.
pub fn build() -> Result<(), String> {
    let repository = crate::repository()?;
    let sources = repository.join("tests/control-plane");
    let built = repository.join("target/control-plane");
    go::is_ready(&sources.join("kubernetes"))?;
    for folder in ["bin", CRDS, "built-from"] {
        fs::create_dir_all(built.join(folder)).map_err(told("making", &built.join(folder)))?;
    }
    for group in &GROUPS {
        let module = sources.join(group.folder);
        for (program, package) in group.programs {
            let output = built.join("bin").join(program);
            let flags = format!("-ldflags=-s -w {}", group.linker);
            timed(program, || {
                go::run(&module, &["build", &flags, "-o", &output.to_string_lossy(), package])
            })?;
        }
        keep(&module, &built, group.folder)?;
    }
    let module = sources.join(CRDS);
    timed("custom resource definitions", || {
        let paths = TYPES.map(|types| format!("paths={types}"));
        let output = format!("output:crd:dir={}", built.join(CRDS).display());
        let mut arguments = vec!["tool", "controller-gen", "crd"];
        arguments.extend(paths.iter().map(String::as_str));
        arguments.push(&output);
        go::run(&module, &arguments)?;
        approve(&built.join(CRDS))
    })?;
    keep(&module, &built, CRDS)?;
    println!("the control plane stands in {}", built.display());
    Ok(())
}

/// Says for the definitions under `k8s.io` who approved them, which the API server demands there and the upstream
/// project adds after generating, too.
fn approve(folder: &Path) -> Result<(), String> {
    const GENERATED: &str = "  annotations:\n";
    const APPROVED: &str = "  annotations:\n    api-approved.kubernetes.io: \
                            https://github.com/kubernetes-csi/external-snapshotter/pull/814\n";
    for entry in fs::read_dir(folder).map_err(told("reading", folder))? {
        let file = entry.map_err(told("reading", folder))?.path();
        if file.file_name().is_some_and(|name| name.to_string_lossy().contains(".k8s.io_")) {
            let definition = fs::read_to_string(&file).map_err(told("reading", &file))?;
            fs::write(&file, definition.replacen(GENERATED, APPROVED, 1))
                .map_err(told("writing", &file))?;
        }
    }
    Ok(())
}

/// Keeps a copy of what a group was built from, if it is not the copy that stands there.
fn keep(module: &Path, built: &Path, group: &str) -> Result<(), String> {
    let pinned =
        fs::read(module.join("go.mod")).map_err(told("reading", &module.join("go.mod")))?;
    let copy = built.join("built-from").join(group).with_extension("mod");
    if fs::read(&copy).is_ok_and(|kept| kept == pinned) {
        return Ok(());
    }
    fs::write(&copy, pinned).map_err(told("writing", &copy))
}

fn timed(what: &str, act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let began = Instant::now();
    act()?;
    println!("{what:<28} {:>6.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn told(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{act} {path} failed: {error}")
}
