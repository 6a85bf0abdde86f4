use super::*;

#[test]
fn the_defaults_match_the_playbook() {
    let config = Config::read("{}").expect("the defaults are valid");
    assert_eq!(config.namespaces.len(), 6);
    assert_eq!(config.flux_source, Some(ObjectRef::new("flux-system", "flux-system")));
    assert!(matches!(&config.driver, Selector::Name(name) if name == "rook-ceph.rbd.csi.ceph.com"));
    assert_eq!(config.mode, Mode::Evidence);
    assert!(!config.evidence_waived && !config.complete_pvc_deletions);
    assert_eq!(config.stabilization_window_ms, 120_000);
}

#[test]
fn a_storage_class_takes_precedence_over_the_driver() {
    let config =
        Config::read(r#"{"storageClass": "ceph-block", "fluxSource": ""}"#).expect("valid");
    assert!(matches!(&config.driver, Selector::StorageClass(name) if name == "ceph-block"));
    assert_eq!(config.flux_source, None);
}

#[test]
fn a_flux_source_without_a_namespace_is_rejected() {
    let error = Config::read(r#"{"fluxSource": "flux-system"}"#).expect_err("no namespace");
    assert!(error.message().contains("`fluxSource`"), "{}", error.message());
}
