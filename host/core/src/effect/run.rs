//! `run`: time, words to the person, questions.

use super::{Target, Validate};
use crate::{Millis, outcome::Error};
use serde::{Deserialize, Serialize};

/// What time is it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Now {}

/// Waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sleep {
    /// How long.
    pub milliseconds: Millis,
}

/// Opens a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// One word.
    pub name: String,
    /// What happens in it.
    pub title: String,
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Info,
    /// Should be read.
    Warning,
}

/// Says a sentence to the person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// The sentence.
    pub text: String,
}

/// Asks the person a yes-or-no question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AskUser {
    /// The question.
    pub question: String,
}

const LONGEST_SLEEP: Millis = 24 * 60 * 60 * 1000;
const LONGEST_TEXT: usize = 16 * 1024;

fn short(text: &str) -> Result<(), Error> {
    if text.len() <= LONGEST_TEXT {
        Ok(())
    } else {
        Err(Error::Invalid(format!("a text of {} bytes: at most {LONGEST_TEXT}", text.len())))
    }
}

impl Validate for Now {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
}
impl Validate for Sleep {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        if self.milliseconds <= LONGEST_SLEEP {
            Ok(())
        } else {
            Err(Error::Invalid("a sleep of more than a day".into()))
        }
    }
}
impl Validate for Step {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        short(&self.name)?;
        short(&self.title)
    }
}
impl Validate for Note {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        short(&self.text)
    }
}
impl Validate for AskUser {
    fn targets(&self) -> Vec<Target> {
        vec![]
    }
    fn check(&self) -> Result<(), Error> {
        short(&self.question)
    }
}
