//! Suspends a Kustomization, and then attacks as it is told to: each attack is a function of `attacks`, told by its name.

mod cpu;
mod everything;
mod memory;
mod policy;
mod record;

use salve_sdk::report::{Conclusion, Description, Diagnosis, State, Verdict};
use salve_sdk::suspend_flux::suspend;
use salve_sdk::types::{FluxKind, FluxRef};
use salve_sdk::{Error, ObjectRef, Remediation, Schema};

struct Hostile;

salve_sdk::remediation!(Hostile);

/// What an attack came to, in words; or it does not return at all.
type Came = Result<String, Error>;

/// Each attack by its name.
const ATTACKS: &[(&str, fn() -> Came)] = &[
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
    Schema::new()
        .text("how", "return", "How it attacks.")
        .text("victim", "media/plex", "The Kustomization that it suspends first.")
        .number("timeout", u64::MAX / 2, "seconds", 0..=u64::MAX, "How long it would like to have.")
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

    /// Touches where it may only look.
    fn diagnose(config: &str) -> Result<Diagnosis, Error> {
        suspend(
            &[victim(&schema().read(config)?.text("victim"))],
            "a diagnosis has no business here",
            10,
        )?;
        Ok(Diagnosis::new(State::Healthy, "it let me touch"))
    }

    fn remediate(config: &str) -> Result<Conclusion, Error> {
        let values = schema().read(config)?;
        let suspension = suspend(&[victim(values.text("victim"))], "to see it given back", 10)?;
        match values.text("how") {
            "forget" => std::mem::forget(suspension),
            "lie" => {
                let mut conclusion = Conclusion::new(Verdict::Fixed, "trust me");
                conclusion.proof = vec![1];
                return Ok(conclusion);
            }
            how => {
                let Some((_, attack)) = ATTACKS.iter().find(|(name, _)| *name == how) else {
                    return Err(Error::Invalid(format!("I do not know how to {how}")));
                };
                let came = attack()?;
                if how != "return" {
                    return Ok(Conclusion::new(Verdict::NotFixed, came));
                }
            }
        }
        Ok(Conclusion::new(Verdict::NothingToDo, "done"))
    }
}

fn victim(place: &str) -> FluxRef {
    let place = ObjectRef::parse(place).unwrap_or(ObjectRef::new("media", "plex"));
    FluxRef { kind: FluxKind::Kustomization, namespace: place.namespace, name: place.name }
}
