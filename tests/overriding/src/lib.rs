//! A guest for tests: sets one field, reads it back, waits, and releases it.

use salve_sdk::override_fields;
use salve_sdk::query_objects;
use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
use salve_sdk::{Error, Kind, ObjectRef, Remediation, Schema, run};
use serde_json::Value;

struct Overriding;

salve_sdk::remediation!(Overriding);

fn schema() -> Schema {
    Schema::new()
        .text("kind", "deployments.apps", "Kind of the object, as resource.group.")
        .text("object", "media/web", "Object, as namespace/name.")
        .text("field", "spec.replicas", "Field to set.")
        .number("value", 0, "units", 0..=1_000, "Value to set.")
        .number("hold", 0, "milliseconds", 0..=60_000, "How long to wait before the release.")
        .flag("forget", "Leave the release to the host.")
}

impl Remediation for Overriding {
    fn describe() -> Description {
        Description {
            name: "overriding".into(),
            version: "0.1.0".into(),
            fixes: "Nothing.".into(),
            configuration: schema().to_json(),
        }
    }

    fn diagnose(_: &str) -> Result<Diagnosis, Error> {
        Ok(Diagnosis::new(State::Healthy, "there is nothing to diagnose"))
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        let values = schema().read(config)?;
        let (resource, group) =
            values.text("kind").split_once('.').unwrap_or((values.text("kind"), ""));
        let kind = Kind { group: group.into(), resource: resource.into() };
        let object = ObjectRef::parse(values.text("object"))
            .ok_or_else(|| Error::Invalid("object: expected namespace/name".into()))?;
        let field = values.text("field");
        run::step("override", &format!("set {field} of {}/{}", object.namespace, object.name));
        let value = values.number("value") as i64;
        let Some(change) = override_fields::set(&kind, &object, field, value, "for a test")? else {
            return Ok(Conclusion::new(Verdict::NothingToDo, "the field has the value already"));
        };
        let text = query_objects::get(&kind, Some(&object.namespace), &object.name)?;
        let now: Value =
            serde_json::from_str(&text).map_err(|error| Error::Invalid(error.to_string()))?;
        let now = now.pointer(&format!("/{}", field.replace('.', "/"))).cloned();
        run::sleep(values.number("hold"));
        let released = if values.flag("forget") {
            std::mem::forget(change);
            "left to the host".to_owned()
        } else {
            change.release()?.unwrap_or_else(|| "released".into())
        };
        let was = now.map_or_else(|| "absent".into(), |value| value.to_string());
        Ok(Conclusion::new(Verdict::NothingToDo, format!("{field} was {was}; {released}")))
    }
}
