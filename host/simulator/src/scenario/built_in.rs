//! The built-in scenarios, from the files in `scenarios/`.

use std::fmt;
use std::str::FromStr;

use salve_document::suggestion;

use super::Scenario;

include!(concat!(env!("OUT_DIR"), "/incident.rs"));

/// The error for an unknown name of a scenario.
#[derive(Debug, thiserror::Error)]
#[error("unknown scenario {name:?}{suggestion}")]
pub struct UnknownIncident {
    name: String,
    suggestion: String,
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Incident {
    type Err = UnknownIncident;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Incident::ALL.map(Incident::name);
        Incident::ALL.into_iter().find(|incident| incident.name() == name).ok_or_else(|| {
            UnknownIncident {
                name: name.to_owned(),
                suggestion: suggestion(name, &known, "known scenarios"),
            }
        })
    }
}

impl Scenario {
    /// Returns a built-in scenario.
    pub fn built_in(incident: Incident) -> Scenario {
        Scenario::read(incident.text(), &format!("{incident}.yaml"), None, &[])
            .unwrap_or_else(|error| panic!("a built-in scenario is invalid: {error}"))
    }
}
