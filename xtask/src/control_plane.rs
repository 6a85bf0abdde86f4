//! Builds the control plane of the tests from the Go modules pinned in `tests/control-plane` into
//! `target/control-plane` of the repository, independent of `CARGO_TARGET_DIR`.
//!
//! Programs are built one after the other, so that the machine stays usable. A program that is up
//! to date only costs a lookup in Go's build cache. After each group, its `go.mod` is copied: the
//! build script of the tests compares the copies and enables the tests.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

use crate::go;

/// The version that the Kubernetes programs report: the version of the pinned module.
const KUBERNETES: &str = "-X k8s.io/component-base/version.gitVersion=v1.36.3 \
                          -X k8s.io/component-base/version.gitMajor=1 \
                          -X k8s.io/component-base/version.gitMinor=36";

/// Programs that share a `go.mod`. etcd is separate: the API server should use the version of
/// etcd's client that it is released with.
struct Group {
    folder: &'static str,
    linker: &'static str,
    programs: &'static [(&'static str, &'static str)],
}

const GROUPS: [Group; 2] = [
    Group { folder: "etcd", linker: "", programs: &[("etcd", "go.etcd.io/etcd/server/v3")] },
    Group {
        folder: "kubernetes",
        linker: KUBERNETES,
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
            ("source-controller", "github.com/fluxcd/source-controller"),
            ("kustomize-controller", "github.com/fluxcd/kustomize-controller"),
        ],
    },
];

/// Flags of the Go compiler: no inlining and no debug information, which takes a third less time.
const COMPILER: &str = "-gcflags=all=-l -dwarf=false";

/// The group from whose types the custom resource definitions are generated.
const CRDS: &str = "crds";

/// The program that generates them.
const GENERATOR: &str = "sigs.k8s.io/controller-tools/cmd/controller-gen";

/// The Go packages with these types.
const TYPES: [&str; 4] = [
    "github.com/fluxcd/source-controller/api/v1",
    "github.com/fluxcd/kustomize-controller/api/v1",
    "github.com/fluxcd/helm-controller/api/v2",
    "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1",
];

/// Builds everything that is not up to date.
pub fn build() -> Result<(), String> {
    let repository = crate::repository()?;
    let sources = repository.join("tests/control-plane");
    let built = repository.join("target/control-plane");
    go::check(&sources.join("kubernetes"))?;
    for folder in ["bin", CRDS, "built-from"] {
        fs::create_dir_all(built.join(folder)).map_err(failed_to("create", &built.join(folder)))?;
    }
    for group in &GROUPS {
        let module = sources.join(group.folder);
        for (program, package) in group.programs {
            let output = built.join("bin").join(program);
            let flags = format!("-ldflags=-s -w {}", group.linker);
            timed(program, || {
                let output = output.to_string_lossy();
                go::run(&module, &["build", &flags, COMPILER, "-o", &output, package])
            })?;
        }
        copy_go_mod(&module, &built, group.folder)?;
    }
    let module = sources.join(CRDS);
    timed("custom resource definitions", || {
        let paths = TYPES.map(|types| format!("paths={types}"));
        let output = format!("output:crd:dir={}", built.join(CRDS).display());
        let mut generator = vec!["run", COMPILER, GENERATOR, "crd"];
        generator.extend(paths.iter().map(String::as_str));
        generator.push(&output);
        go::run(&module, &generator)?;
        approve(&built.join(CRDS))
    })?;
    copy_go_mod(&module, &built, CRDS)?;
    println!("built the control plane in {}", built.display());
    Ok(())
}

/// Adds the approval annotation to definitions below `k8s.io`, which the API server requires there.
/// The upstream project adds it after generating them, too.
fn approve(folder: &Path) -> Result<(), String> {
    const GENERATED: &str = "  annotations:\n";
    const APPROVED: &str = "  annotations:\n    api-approved.kubernetes.io: \
                            https://github.com/kubernetes-csi/external-snapshotter/pull/814\n";
    for entry in fs::read_dir(folder).map_err(failed_to("read", folder))? {
        let file = entry.map_err(failed_to("read", folder))?.path();
        if file.file_name().is_some_and(|name| name.to_string_lossy().contains(".k8s.io_")) {
            let definition = fs::read_to_string(&file).map_err(failed_to("read", &file))?;
            fs::write(&file, definition.replacen(GENERATED, APPROVED, 1))
                .map_err(failed_to("write", &file))?;
        }
    }
    Ok(())
}

/// Copies the `go.mod` from which a group was built, unless the copy is up to date.
fn copy_go_mod(module: &Path, built: &Path, group: &str) -> Result<(), String> {
    let pinned =
        fs::read(module.join("go.mod")).map_err(failed_to("read", &module.join("go.mod")))?;
    let copy = built.join("built-from").join(group).with_extension("mod");
    if fs::read(&copy).is_ok_and(|kept| kept == pinned) {
        return Ok(());
    }
    fs::write(&copy, pinned).map_err(failed_to("write", &copy))
}

fn timed(what: &str, build: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let began = Instant::now();
    build()?;
    println!("{what:<28} {:>6.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn failed_to(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("failed to {verb} {path}: {error}")
}
