use super::*;

fn schema() -> Schema {
    Schema::new()
        .texts("namespaces", &["ai", "media"], "Namespaces to check.")
        .text("source", "flux-system/flux-system", "The source.")
        .choice("mode", &["evidence", "all"], "How much.")
        .number("window", 120, "seconds", 0..=3600, "How long it must be stable.")
        .flag("complete-deletions", "Consent.")
}

#[test]
fn an_empty_configuration_is_all_defaults() {
    for text in ["", "{}"] {
        let values = schema().read(text).expect("the defaults are valid");
        assert_eq!(values.texts("namespaces"), ["ai", "media"]);
        assert_eq!(values.text("mode"), "evidence");
        assert_eq!(values.number("window"), 120);
        assert!(!values.flag("complete-deletions"));
    }
}

#[test]
fn an_invalid_value_is_rejected_with_its_key() {
    for (config, message) in [
        (r#"{"windw": 3}"#, "unknown key `windw`"),
        (r#"{"window": "3"}"#, "`window` is \"3\", expected a number of seconds"),
        (r#"{"window": -1}"#, "`window` is -1"),
        (r#"{"window": 3601}"#, "from 0 to 3600"),
        (r#"{"mode": "most"}"#, "one of evidence, all"),
        (r#"{"namespaces": []}"#, "at least one"),
        (r#"{"namespaces": ["a", 1]}"#, "`namespaces`"),
        (r#"{"complete-deletions": "yes"}"#, "true or false"),
        ("[]", "a JSON object"),
        ("{", "not JSON"),
    ] {
        let error = schema().read(config).expect_err(config);
        assert!(matches!(error, Error::Invalid(_)), "{config}");
        assert!(error.message().contains(message), "{config}: {}", error.message());
    }
}

#[test]
fn every_key_has_a_default_and_a_description() {
    let schema: Value = serde_json::from_str(&schema().to_json()).expect("it is JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["window"]["x-unit"], "seconds");
    assert_eq!(schema["properties"]["window"]["default"], 120);
    let properties = schema["properties"].as_object().expect("properties");
    assert_eq!(properties.len(), 5);
    assert!(
        properties.values().all(|key| key["description"].is_string() && !key["default"].is_null())
    );
}
