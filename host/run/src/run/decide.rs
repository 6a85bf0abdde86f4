//! Decides on a guest's call: by its grants, again once the objects of a write are read, and by the
//! user where a document requires approval.

use super::{Halt, Mode, Run};
use salve_core::approval::Approved;
use salve_core::capability::{Effect, Write};
use salve_core::grants::{Denial, Reservation};
use serde_json::Value;
use std::time::Duration;

/// How many objects a question names.
const NAMED_OBJECTS: usize = 5;
/// How long a question waits for its answer. What the user was asked about becomes outdated.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// What satisfies a document that requires approval.
const APPROVING: &str = "would allow it at a terminal, or as part of an approved plan: run `salve \
                         plan`, then `salve run --plan`";

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserAnswer {
    Yes,
    No,
    /// There was none within [`ANSWER_TIMEOUT`]. A later one does not count.
    Expired,
    /// There is no user to ask.
    Unavailable,
}

/// What a call was granted.
pub(super) struct GrantedCall {
    reservation: Reservation,
    /// The user approved it.
    approved: bool,
    /// What was approved, with its objects as they were read then.
    pub shown: Option<Approved>,
}

impl GrantedCall {
    /// Creates the grant of a write that was counted before a crash. Its approval is asked again.
    pub fn counted(reservation: Reservation) -> Self {
        Self { reservation, approved: false, shown: None }
    }
}

impl GrantedCall {
    /// Returns whether a person approved it.
    pub fn is_approved(&self) -> bool {
        self.approved
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
                needs_approval: false,
            }));
        }
        if let Some(denial) = self.unattended(effect) {
            return Ok(Err(denial));
        }
        // mutant grants-ignored: self.grants.decide(effect, &self.tally) ~>
        //     Ok::<_, Denial>(salve_core::grants::Permit::default())
        let permit = match self.grants.decide(effect, &self.tally) {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(denial)),
        };
        let reservation = self.tally.reserve(&permit);
        let mut granted = GrantedCall { reservation, approved: false, shown: None };
        // With the objects fewer grants apply, never more: what requires approval now does so
        // later.
        let allowed = self.require_approval(&mut granted, permit.approval, effect).await?;
        Ok(allowed.map(|()| granted))
    }

    /// Denies a write if no one can approve it or a later one. A run that cannot be completed does
    /// not change anything first.
    fn unattended(&self, effect: &Effect) -> Option<Denial> {
        let is_open = self.context.mode == Mode::Live && self.approval.is_none();
        // mutant unattended-run-begins: self.context.prompt.is_available() ~> true
        if !is_open || self.context.prompt.is_available() {
            return None;
        }
        let Effect::Write(write) = effect else { return None };
        let document = self.grants.approving_document()?;
        Some(Denial {
            what: format!(
                "{} was not sent: some grants require approval, and no one is available to approve \
                 at a terminal (--yes does not count)",
                write.name()
            ),
            document: document.into(),
            remedy: APPROVING.into(),
            needs_approval: true,
        })
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
        let (why, needs_approval) = match self.ask_user(&question).await? {
            // mutant rejection-ignored: UserAnswer::Yes ~> UserAnswer::Yes | UserAnswer::No
            UserAnswer::Yes => {
                granted.approved = true;
                return Ok(Ok(()));
            }
            UserAnswer::No => ("the user rejected it", false),
            UserAnswer::Expired => ("there was no answer within 5 min", true),
            UserAnswer::Unavailable => {
                ("no one is available to approve it at a terminal, and --yes does not count", true)
            }
        };
        Ok(Err(Denial {
            what: format!("{} {objects} requires approval: {why}", effect.name()),
            document,
            remedy: APPROVING.into(),
            needs_approval,
        }))
    }

    /// Asks the user. Something may be suspended meanwhile, so the deadline applies.
    pub(super) async fn ask_user(&mut self, question: &str) -> Result<UserAnswer, Halt> {
        let left = self.time_left();
        let asked_at = self.context.clock.now();
        let asked = self.context.prompt.ask(question);
        let answer = tokio::select! {
            answer = asked => answer,
            () = self.context.stop.wait() => return Err(Halt::Stopped),
            () = tokio::time::sleep(left.min(ANSWER_TIMEOUT)) => {
                if left < ANSWER_TIMEOUT {
                    return Err(self.deadline_exceeded());
                }
                return Ok(UserAnswer::Expired);
            }
        };
        let waited = self.context.clock.now().saturating_sub(asked_at);
        Ok(match answer {
            None => UserAnswer::Unavailable,
            // mutant late-answer-accepted: > ANSWER_TIMEOUT ~> > ANSWER_TIMEOUT * 1000
            Some(_) if Duration::from_millis(waited) > ANSWER_TIMEOUT => UserAnswer::Expired,
            Some(true) => UserAnswer::Yes,
            Some(false) => UserAnswer::No,
        })
    }
}
