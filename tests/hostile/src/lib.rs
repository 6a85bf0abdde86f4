//! A hostile guest: suspends a Kustomization and then runs the attack that the configuration names.

mod cpu;
mod everything;
mod memory;
mod policy;
mod record;
mod success;

use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, ObjectRef, Remediation, Schema};

struct Hostile;

salve_sdk::remediation!(Hostile);

/// The outcome of an attack as text. Some attacks never return.
type AttackResult = Result<String, Error>;

/// All attacks by name.
const ATTACKS: &[(&str, fn() -> AttackResult)] = &[
    ("return", || Ok("done".into())),
    ("error", || Err(Error::NotFound("what I was looking for".into()))),
    ("panic", || panic!("asked to panic")),
    ("loop", cpu::spin),
    ("recurse", cpu::recurse),
    ("copy", cpu::copy),
    ("sleep", cpu::sleep),
    ("calls", cpu::calls),
    ("pattern", cpu::pattern),
    ("hoard", memory::hoard),
    ("handles", memory::handles),
    ("shout", memory::shout),
    ("list", memory::list),
    ("beyond", memory::beyond),
    ("everything", everything::everything),
    ("paint", record::paint),
    ("forge", record::forge),
    ("flood", record::flood),
    ("lines", record::lines),
    ("secrets", policy::secrets),
    ("names", policy::names),
    ("selectors", policy::selectors),
    ("others", policy::others),
    ("marks", policy::marks),
    ("random", record::random),
];

fn schema() -> Schema {
    Schema::new().text("how", "return", "Attack to run.").text(
        "victim",
        "media/plex",
        "Kustomization to suspend first.",
    )
}

impl Remediation for Hostile {
    fn describe() -> Description {
        Description {
            name: "hostile".into(),
            version: "0.1.0".into(),
            fixes: "Nothing.".into(),
            configuration: schema().to_json(),
        }
    }

    /// Writes although a diagnosis may only read.
    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        suspend(
            &[victim(&schema().read(config)?.text("victim"))],
            "a diagnosis must not suspend",
            10,
        )?;
        Ok(Diagnosis::new(State::Healthy, "the write was allowed"))
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        let values = schema().read(config)?;
        if values.text("how").starts_with("claims-success-") {
            return success::claim(values.text("how"));
        }
        let suspended =
            suspend(&[victim(values.text("victim"))], "to check that it is released", 10)?;
        match values.text("how") {
            "forget" => std::mem::forget(suspended),
            "lie" => return Ok(Conclusion::new(Verdict::Fixed, "trust me")),
            how => {
                let Some((_, attack)) = ATTACKS.iter().find(|(name, _)| *name == how) else {
                    return Err(Error::Invalid(format!("unknown attack: {how}")));
                };
                let outcome = attack()?;
                if how != "return" {
                    return Ok(Conclusion::new(Verdict::NotFixed, outcome));
                }
            }
        }
        Ok(Conclusion::new(Verdict::NothingToDo, "done"))
    }
}

fn victim(name: &str) -> FluxRef {
    let object = ObjectRef::parse(name).unwrap_or(ObjectRef::new("media", "plex"));
    FluxRef { kind: FluxKind::Kustomization, namespace: object.namespace, name: object.name }
}
