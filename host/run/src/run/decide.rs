//! Decides on a guest's call: by its grants, again once the objects of a write are read, and by the
//! user where a document requires approval.

use super::{Halt, Mode, Run};
use salve_core::capability::{Effect, Write};
use salve_core::grants::{Denial, Reservation};
use serde_json::Value;

/// How many objects a question names.
const NAMED_OBJECTS: usize = 5;

/// What a call was granted.
pub(super) struct GrantedCall {
    reservation: Reservation,
    /// A person approved it.
    approved: bool,
}

impl GrantedCall {
    /// Creates the grant of a write that was counted before a crash. Its approval is asked again.
    pub fn counted(reservation: Reservation) -> Self {
        Self { reservation, approved: false }
    }
}

impl Run {
    /// Decides before anything is read, and reserves what the call uses: attempts count.
    pub(super) async fn decide(
        &mut self,
        effect: &Effect,
    ) -> Result<Result<GrantedCall, Denial>, Halt> {
        if self.context.mode == Mode::Diagnosis && effect.changes_cluster() {
            return Ok(Err(Denial {
                what: format!("{} during a diagnosis", effect.name()),
                document: "Salve".into(),
                remedy: "allows only reads in a diagnosis, whatever is granted".into(),
            }));
        }
        // mutant grants-ignored: self.grants.decide(effect, &self.tally) ~>
        //     Ok::<_, Denial>(salve_core::grants::Permit::default())
        let permit = match self.grants.decide(effect, &self.tally) {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial)),
        };
        let reservation = self.tally.reserve(&permit);
        let mut granted = GrantedCall { reservation, approved: false };
        // With the objects fewer grants apply, never more: what requires approval now does so
        // later.
        let allowed = self.require_approval(&mut granted, permit.approval, effect).await?;
        Ok(allowed.map(|()| granted))
    }

    /// Decides again once the objects of a write are read: the grants that apply to them are
    /// charged instead. `remaining` is what is still to be done. Later attempts keep the first
    /// one's charges.
    pub(super) async fn decide_with_objects(
        &mut self,
        granted: &mut GrantedCall,
        remaining: &Write,
        objects: &[Value],
        is_first: bool,
    ) -> Result<Result<(), Denial>, Halt> {
        let effect = Effect::Write(remaining.clone());
        let own = Some(&granted.reservation);
        let permit = match self.grants.decide_with_objects(&effect, objects, &self.tally, own) {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial)),
        };
        if is_first {
            // mutant wrong-grant-charged: self.tally.amend(&mut granted.reservation, &permit) ~> ()
            self.tally.amend(&mut granted.reservation, &permit);
        }
        // mutant object-approval-skipped: permit.approval ~> None
        self.require_approval(granted, permit.approval, &effect).await
    }

    /// Asks the user if a document requires approval, once per call. An approved plan is approved;
    /// a plan that is made needs no approval.
    async fn require_approval(
        &mut self,
        granted: &mut GrantedCall,
        document: Option<String>,
        effect: &Effect,
    ) -> Result<Result<(), Denial>, Halt> {
        let is_open =
            !granted.approved && self.context.mode == Mode::Live && self.approval.is_none();
        let Some(document) = document.filter(|_| is_open) else { return Ok(Ok(())) };
        let targets = effect.targets();
        let names: Vec<String> =
            targets.iter().take(NAMED_OBJECTS).map(ToString::to_string).collect();
        let more = targets.len().saturating_sub(NAMED_OBJECTS);
        let objects = if more == 0 {
            names.join(", ")
        } else {
            format!("{} and {more} more", names.join(", "))
        };
        let question = format!("{document} requires approval. Allow {} {objects}?", effect.name());
        let why = match self.ask_user(&question).await? {
            // mutant rejection-ignored: Some(true) ~> Some(_)
            Some(true) => {
                granted.approved = true;
                return Ok(Ok(()));
            }
            Some(false) => "the user rejected it",
            None => "no one is available to approve it at a terminal, and --yes does not count",
        };
        Ok(Err(Denial {
            what: format!("{} {objects} requires approval: {why}", effect.name()),
            document,
            remedy:
                "would allow it at a terminal, or as part of an approved plan: run `salve plan`, \
                     then `salve run --plan`"
                    .into(),
        }))
    }

    /// Asks the user. Something may be suspended meanwhile, so the deadline applies.
    pub(super) async fn ask_user(&mut self, question: &str) -> Result<Option<bool>, Halt> {
        let asked = self.context.prompt.ask(question);
        let left = self.time_left();
        tokio::select! {
            answer = asked => Ok(answer),
            () = self.context.stop.wait() => Err(Halt::Stopped),
            () = tokio::time::sleep(left) => Err(self.deadline_exceeded()),
        }
    }
}
