//! Capabilities: what a guest, or the host, can ask of the outside, as values.
//!
//! The [`table`] lists all capabilities and their functions. A capability's module has the
//! arguments and answers of its functions and answers every question of [`call`] about them.
//! [`effect`] makes enums of the table, `questions` forwards the questions.

pub mod call;
pub mod effect;
mod grant_shape;
mod observations;
mod questions;
pub mod run_annotations;
pub mod table;
mod target;
pub mod types;

pub use call::{IsReversal, Pending, Released, Summary, Unfinished};
pub use effect::{
    Answer, Capability, Effect, Function, Group, Local, Read, Reversal, TypedCall, Write,
};
pub use grant_shape::{Excess, GrantKinds, GrantShape};
pub use observations::{ObjectDetails, Observations, PlannedChanges};
pub use target::{Target, TargetKind};

macro_rules! declare_modules {
    ({} $($capability:ident $interface:literal $module:ident $access:ident $functions:tt)*) => {
        $(pub mod $module;)*
    };
}
crate::each_capability! { [declare_modules] }

/// Who may use a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every guest, without a grant.
    Builtin,
    /// The host only.
    Internal,
    /// A guest with a grant. Reads only.
    Read,
    /// A guest with a grant. Can change the cluster.
    Write,
}

#[cfg(test)]
mod write_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn function_names_are_unique() {
        let names: BTreeSet<&str> = Function::ALL.iter().map(|function| function.name()).collect();
        assert_eq!(names.len(), Function::ALL.len());
    }

    #[test]
    fn every_reversal_reverses_a_write() {
        let reversals = Function::ALL.iter().filter(|function| function.group() == Group::Reversal);
        for reversal in reversals {
            let reverses = |function: &&Function| function.reversed_by() == Some(*reversal);
            assert!(Function::ALL.iter().any(|function| reverses(&function)), "{reversal:?}");
        }
    }

    #[test]
    fn a_call_survives_its_journal_form() {
        let effect = query_pvcs::ListPvcs { namespaces: vec!["media".into()] }.effect();
        let line = serde_json::to_string(&effect).unwrap();
        assert_eq!(line, r#"{"call":"query-pvcs.list-pvcs","with":{"namespaces":["media"]}}"#);
        assert_eq!(serde_json::from_str::<Effect>(&line).unwrap(), effect);
        let swapped = r#"{"with":{"namespaces":["media"]},"call":"query-pvcs.list-pvcs"}"#;
        assert_eq!(serde_json::from_str::<Effect>(swapped).unwrap(), effect);
    }

    #[test]
    fn a_broken_journal_form_names_the_function() {
        let error = |text: &str| serde_json::from_str::<Effect>(text).unwrap_err().to_string();
        assert!(
            error(r#"{"call":"mow.lawn","with":{}}"#).contains("unknown function \"mow.lawn\"")
        );
        assert!(
            error(r#"{"call":"run.note","with":{"level":"info"}}"#)
                .contains("run.note: missing field")
        );
        let read = r#"{"call":"query-pvcs.list-pvcs","with":{"namespaces":[]}}"#;
        assert!(
            serde_json::from_str::<Write>(read)
                .unwrap_err()
                .to_string()
                .contains("does not belong")
        );
    }
}
