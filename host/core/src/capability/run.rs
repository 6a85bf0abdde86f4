//! `run`: time, output, and questions.

use super::call::{Call, LocalCall};
use super::{GrantShape, Target};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Now {}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sleep {
    pub milliseconds: Millis,
}

/// Starts a step of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub name: String,
    pub title: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Info,
    Warning,
}

/// Prints a sentence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub level: Level,
    pub text: String,
}

/// Asks the user a yes-or-no question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskUser {
    pub question: String,
}

/// Reports that an entry shows a problem of the documents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Its name.
    pub problem: String,
    /// The number of a read of this run.
    pub entry: u64,
}

const MAX_SLEEP: Millis = 24 * 60 * 60 * 1000;
const MAX_TEXT_BYTES: usize = 16 * 1024;

pub fn grant_shape() -> GrantShape {
    GrantShape::default()
}

fn validate_text(text: &str) -> Result<(), Error> {
    if text.len() <= MAX_TEXT_BYTES {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "text of {} bytes: the maximum is {MAX_TEXT_BYTES}",
            text.len()
        )))
    }
}

impl Call for Now {
    type Answer = Millis;
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        Ok(())
    }
}

impl LocalCall for Now {
    fn observes_time(&self) -> bool {
        true
    }
    fn text_bytes(&self) -> usize {
        0
    }
}

impl Call for Sleep {
    type Answer = ();
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        if self.milliseconds <= MAX_SLEEP {
            Ok(())
        } else {
            Err(Error::Invalid("a sleep of more than 24 h".into()))
        }
    }
}

impl LocalCall for Sleep {
    fn observes_time(&self) -> bool {
        true
    }
    fn text_bytes(&self) -> usize {
        0
    }
}

impl Call for Step {
    type Answer = ();
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        validate_text(&self.name)?;
        validate_text(&self.title)
    }
}

impl LocalCall for Step {
    fn observes_time(&self) -> bool {
        false
    }
    fn text_bytes(&self) -> usize {
        self.name.len() + self.title.len()
    }
}

impl Call for Note {
    type Answer = ();
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        validate_text(&self.text)
    }
}

impl LocalCall for Note {
    fn observes_time(&self) -> bool {
        false
    }
    fn text_bytes(&self) -> usize {
        self.text.len()
    }
}

impl Call for AskUser {
    type Answer = bool;
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        validate_text(&self.question)
    }
}

impl LocalCall for AskUser {
    fn observes_time(&self) -> bool {
        false
    }
    fn text_bytes(&self) -> usize {
        self.question.len()
    }
}

impl Call for Observed {
    type Answer = ();
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn validate(&self) -> Result<(), Error> {
        validate_text(&self.problem)
    }
}

impl LocalCall for Observed {
    fn observes_time(&self) -> bool {
        false
    }
    fn text_bytes(&self) -> usize {
        self.problem.len()
    }
}
