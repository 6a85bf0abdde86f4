//! Whether the guest may: by its grants alone, and once more when what a touch meets has been read; by a person where a document wants that.

use super::{Halt, Mode, Run};
use salve_core::effect::{Effect, Write};
use salve_core::grants::{Denial, Permit};
use serde_json::Value;

/// So many objects are named in a question.
const NAMED: usize = 5;

/// What one call was granted: what it is charged with, and whether a person has said yes to it.
pub(super) struct GrantedCall {
    permit: Permit,
    asked: bool,
}

impl GrantedCall {
    /// Of a write that was opened before a crash, and counted. Who said yes to it then is asked again.
    pub fn counted(permit: Permit) -> Self {
        Self { permit, asked: false }
    }
}

impl Run {
    /// Before anything is read. Charges what is allowed: attempts count.
    pub(super) async fn decide(
        &mut self,
        effect: &Effect,
    ) -> Result<Result<GrantedCall, Denial>, Halt> {
        if let (Mode::Diagnosis, Effect::Write(_)) = (self.context.mode, effect) {
            return Ok(Err(Denial {
                what: format!("{} during a diagnosis", effect.name()),
                document: "Salve:".into(),
                remedy: "a diagnosis looks and never touches, whatever is granted".into(),
            }));
        }
        let permit = match self.grants.decide(effect, &self.tally) {
            Ok(permit) => permit,
            // mutant grants-ignored: (denial) => return Ok(Err(denial)) ~> (_) =>
            //     self.grants.count(effect, &[], &mut self.tally)
            Err(denial) => return Ok(Err(denial)),
        };
        self.tally.charge(&permit);
        let mut granted = GrantedCall { permit, asked: false };
        // Whoever is asked now would be asked later too: with the objects fewer grants hold, never more.
        let document = granted.permit.approval.clone();
        Ok(self.yes(&mut granted, document, effect).await?.map(|()| granted))
    }

    /// When the objects of a touch have been read: the grants that hold for them are charged, in place of those that could have. `rest` is
    /// what is left of the touch at this attempt.
    pub(super) async fn decide_with_objects(
        &mut self,
        granted: &mut GrantedCall,
        rest: &Write,
        objects: &[Value],
        first: bool,
    ) -> Result<Result<(), Denial>, Halt> {
        let effect = Effect::Write(rest.clone());
        self.tally.refund(&granted.permit);
        let decided = self.grants.decide_with_objects(&effect, objects, &self.tally);
        // mutant object-approval-skipped: decided.as_ref().ok().and_then(|permit|
        //     permit.approval.clone()) ~> None
        let document = decided.as_ref().ok().and_then(|permit| permit.approval.clone());
        let denied = match decided {
            // A later attempt is of the same charge.
            Ok(permit) if first => {
                // mutant wrong-grant-charged: granted.permit = permit ~> drop(permit)
                granted.permit = permit;
                None
            }
            Ok(_) => None,
            Err(denial) => Some(denial),
        };
        self.tally.charge(&granted.permit);
        match denied {
            Some(denial) => Ok(Err(denial)),
            None => self.yes(granted, document, &effect).await,
        }
    }

    /// The yes that a document wants, once for a call. A plan that is carried out has it; a plan that is made needs none.
    async fn yes(
        &mut self,
        granted: &mut GrantedCall,
        document: Option<String>,
        effect: &Effect,
    ) -> Result<Result<(), Denial>, Halt> {
        let Some(document) = document.filter(|_| {
            !granted.asked && self.context.mode == Mode::Live && self.approval.is_none()
        }) else {
            return Ok(Ok(()));
        };
        let targets = effect.targets();
        let named: Vec<String> = targets.iter().take(NAMED).map(ToString::to_string).collect();
        let more = targets.len().saturating_sub(NAMED);
        let objects = if more == 0 {
            named.join(", ")
        } else {
            format!("{} and {more} more", named.join(", "))
        };
        let why = match self
            .observer(&format!("{document} wants a person's yes: {} {objects}?", effect.name()))
            .await?
        {
            // mutant rejection-ignored: true ~> _
            Some(true) => {
                granted.asked = true;
                return Ok(Ok(()));
            }
            Some(false) => "a person said no",
            None => "nobody is at a terminal to say yes, and --yes is nobody",
        };
        Ok(Err(Denial {
            what: format!("{} {objects} wants a person's yes: {why}", effect.name()),
            document: document,
            remedy: "would allow it at a terminal, or as part of a plan that was approved: salve plan, then salve run --plan".into(),
        }))
    }

    /// Asks whoever is there. Flux may be suspended meanwhile, so this has an end too.
    pub(super) async fn observer(&mut self, question: &str) -> Result<Option<bool>, Halt> {
        let asked = self.context.observer.ask(question);
        let left = self.left();
        tokio::select! {
            answer = asked => Ok(answer),
            () = self.context.stop.wait() => Err(Halt::Stopped),
            () = tokio::time::sleep(left) => Err(self.late()),
        }
    }
}
