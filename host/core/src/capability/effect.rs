//! Calls as values: enums generated from the [table](super::table).

use super::call::{Call, IsReversal, Limit, LocalCall, ReadCall, ReversalCall, WriteCall};
use super::{Access, GrantShape, Target};
use crate::footprint::{FieldPath, Rule};
use crate::grants::Grant;
use crate::outcome::Error;
use crate::problem::Predicate;
use crate::{on_local, on_read, on_write};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::LazyLock;
use std::time::Duration;

/// A call of the table. Generated.
pub trait TypedCall: Call {
    const FUNCTION: Function;

    fn effect(self) -> Effect;

    fn wrap(answer: Self::Answer) -> Answer;

    /// # Errors
    /// It is the answer of another function.
    fn unwrap(answer: Answer) -> Result<Self::Answer, Error>;

    /// # Errors
    /// It is the answer of another function.
    fn unwrap_ref(answer: &Answer) -> Result<&Self::Answer, Error>;

    /// Returns the call in an effect, if it is of this function.
    fn from_effect(effect: &Effect) -> Option<&Self>;
}

macro_rules! define_effects {
    ({} $($capability:ident $interface:literal $module:ident $access:ident {
        local { $($local:ident $local_name:literal)* }
        reads { $($read:ident $read_name:literal)* }
        writes { $($write:ident $write_name:literal)* }
        reversals { $($reversal:ident $reversal_name:literal)* }
    })*) => {
        define_group! {
            /// A call that the run answers without the cluster.
            Local { $($($module $local;)*)* }
        }
        define_group! {
            /// A call that changes nothing.
            Read { $($($module $read;)*)* }
        }
        define_group! {
            /// A call that changes the cluster.
            Write { $($($module $write;)*)* }
        }
        define_group! {
            /// A call that restores what a write of the same run changed.
            Reversal { $($($module $reversal;)*)* }
        }

        /// The answer of any call.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum Answer {
            $($($local(<super::$module::$local as Call>::Answer),)*)*
            $($($read(<super::$module::$read as Call>::Answer),)*)*
            $($($write(<super::$module::$write as Call>::Answer),)*)*
            $($($reversal(<super::$module::$reversal as Call>::Answer),)*)*
        }

        /// A function of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Function {
            $($($local,)* $($read,)* $($write,)* $($reversal,)*)*
        }

        impl Function {
            pub const ALL: &'static [Self] = &[
                $($(Self::$local,)* $(Self::$read,)* $(Self::$write,)* $(Self::$reversal,)*)*
            ];

            pub fn capability(self) -> Capability {
                match self {
                    $($(Self::$local => Capability::$capability,)*
                    $(Self::$read => Capability::$capability,)*
                    $(Self::$write => Capability::$capability,)*
                    $(Self::$reversal => Capability::$capability,)*)*
                }
            }

            /// Returns `interface.function`.
            pub fn name(self) -> &'static str {
                match self {
                    $($(Self::$local => concat!($interface, ".", $local_name),)*
                    $(Self::$read => concat!($interface, ".", $read_name),)*
                    $(Self::$write => concat!($interface, ".", $write_name),)*
                    $(Self::$reversal => concat!($interface, ".", $reversal_name),)*)*
                }
            }

            pub fn group(self) -> Group {
                match self {
                    $($(Self::$local => Group::Local,)*
                    $(Self::$read => Group::Read,)*
                    $(Self::$write => Group::Write,)*
                    $(Self::$reversal => Group::Reversal,)*)*
                }
            }

            /// Returns the requests that it may send. With a grant, for a Role and admission
            /// policies; without one, `*` stands for the kind that the call names.
            pub fn requests(self, grant: Option<&Grant>) -> Vec<Rule> {
                match self {
                    $($(Self::$local => vec![],)*
                    $(Self::$read => <super::$module::$read as ReadCall>::requests(grant),)*
                    $(Self::$write => <super::$module::$write as WriteCall>::requests(grant),)*
                    $(Self::$reversal => {
                        <super::$module::$reversal as ReversalCall>::requests(grant)
                    })*)*
                }
            }

            /// Returns the fields that any of its calls under this grant may set.
            pub fn granted_fields(self, grant: &Grant) -> Vec<FieldPath> {
                match self {
                    $($(Self::$local => vec![],)*
                    $(Self::$read => vec![],)*
                    $(Self::$write => {
                        <super::$module::$write as WriteCall>::granted_fields(grant)
                    })*
                    $(Self::$reversal => {
                        <super::$module::$reversal as ReversalCall>::granted_fields(grant)
                    })*)*
                }
            }

            /// Returns the key under `max` that counts its targets.
            pub fn limit(self) -> Option<Limit> {
                match self {
                    $($(Self::$local => None,)*
                    $(Self::$read => None,)*
                    $(Self::$write => <super::$module::$write as WriteCall>::limit(),)*
                    $(Self::$reversal => None,)*)*
                }
            }

            /// Returns the function that reverses this one.
            pub fn reversed_by(self) -> Option<Self> {
                match self {
                    $($(Self::$local => None,)*
                    $(Self::$read => None,)*
                    $(Self::$write => {
                        <<super::$module::$write as WriteCall>::Reversal as IsReversal>::REVERSED_BY
                    })*
                    $(Self::$reversal => None,)*)*
                }
            }

            /// Returns the write with which `salve undo` takes it back after the run.
            pub fn undone_by(self) -> Option<Self> {
                match self {
                    $($(Self::$local => None,)*
                    $(Self::$read => None,)*
                    $(Self::$write => <super::$module::$write as WriteCall>::undone_by(),)*
                    $(Self::$reversal => None,)*)*
                }
            }

            /// Returns by what its answers can show a problem.
            pub fn predicate(self) -> Predicate {
                match self {
                    $($(Self::$local => Predicate::None,)*
                    $(Self::$read => <super::$module::$read as ReadCall>::predicate(),)*
                    $(Self::$write => Predicate::None,)*
                    $(Self::$reversal => Predicate::None,)*)*
                }
            }

            /// Returns the requests that search the cluster for what its runs left behind.
            pub fn leftover_requests(self) -> Vec<Rule> {
                match self {
                    $($(Self::$local => vec![],)*
                    $(Self::$read => vec![],)*
                    $(Self::$write => vec![],)*
                    $(Self::$reversal => {
                        <super::$module::$reversal as ReversalCall>::leftover_requests()
                    })*)*
                }
            }
        }

        /// A capability: a WIT interface, or functions of the host alone.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Capability { $($capability,)* }

        impl Capability {
            pub const ALL: &'static [Self] = &[$(Self::$capability,)*];

            /// Returns the name of its WIT interface.
            pub fn name(self) -> &'static str {
                match self { $(Self::$capability => $interface,)* }
            }

            pub fn access(self) -> Access {
                match self { $(Self::$capability => Access::$access,)* }
            }

            /// Returns what a grant of it may say.
            pub fn grant_shape(self) -> GrantShape {
                match self { $(Self::$capability => super::$module::grant_shape(),)* }
            }
        }

        $($(typed_call! { Local $module $local })*)*
        $($(typed_call! { Read $module $read })*)*
        $($(typed_call! { Write $module $write })*)*
        $($(typed_call! { Reversal $module $reversal })*)*
        $($(
            impl IsReversal for super::$module::$reversal {
                const REVERSED_BY: Option<Function> = Some(Function::$reversal);
                fn into_reversal(self) -> Reversal {
                    Reversal::$reversal(self)
                }
            }
        )*)*
    };
}

macro_rules! define_group {
    ($(#[$doc:meta])* $group:ident { $($module:ident $type:ident;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $group { $($type(super::$module::$type),)* }

        impl $group {
            pub fn function(&self) -> Function {
                match self { $(Self::$type(_) => Function::$type,)* }
            }

            /// Returns `interface.function`.
            pub fn name(&self) -> &'static str {
                self.function().name()
            }

            pub fn targets(&self) -> Vec<Target> {
                match self { $(Self::$type(call) => call.targets(),)* }
            }

            /// # Errors
            /// See [`Call::validate`].
            pub fn validate(&self) -> Result<(), Error> {
                match self { $(Self::$type(call) => call.validate(),)* }
            }

            /// Reads a journaled answer.
            ///
            /// # Errors
            /// It is not an answer of this function.
            pub fn decode(&self, raw: &RawValue) -> Result<Answer, serde_json::Error> {
                match self {
                    $(Self::$type(_) => serde_json::from_str(raw.get()).map(Answer::$type),)*
                }
            }

            fn arguments(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$type(call) => serde_json::to_value(call),)* }
            }

            fn parse(
                function: Function,
                arguments: Value,
            ) -> Option<Result<Self, serde_json::Error>> {
                $(if function == Function::$type {
                    return Some(serde_json::from_value(arguments).map(Self::$type));
                })*
                None
            }
        }

        impl Serialize for $group {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error as _, SerializeStruct as _};
                let arguments = self.arguments().map_err(S::Error::custom)?;
                let mut form = serializer.serialize_struct("Call", 2)?;
                form.serialize_field("call", self.name())?;
                form.serialize_field("with", &arguments)?;
                form.end()
            }
        }

        impl<'de> Deserialize<'de> for $group {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let (function, arguments) = journal_form(deserializer)?;
                let call = Self::parse(function, arguments).ok_or_else(|| {
                    de::Error::custom(format!("{} does not belong here", function.name()))
                })?;
                call.map_err(|error| de::Error::custom(format!("{}: {error}", function.name())))
            }
        }
    };
}

macro_rules! typed_call {
    ($group:ident $module:ident $type:ident) => {
        impl From<super::$module::$type> for $group {
            fn from(call: super::$module::$type) -> Self {
                Self::$type(call)
            }
        }

        impl TypedCall for super::$module::$type {
            const FUNCTION: Function = Function::$type;

            fn effect(self) -> Effect {
                Effect::$group($group::$type(self))
            }

            fn wrap(answer: Self::Answer) -> Answer {
                Answer::$type(answer)
            }

            fn unwrap(answer: Answer) -> Result<Self::Answer, Error> {
                if let Answer::$type(answer) = answer {
                    Ok(answer)
                } else {
                    Err(other_answer(<Self as TypedCall>::FUNCTION))
                }
            }

            fn unwrap_ref(answer: &Answer) -> Result<&Self::Answer, Error> {
                if let Answer::$type(answer) = answer {
                    Ok(answer)
                } else {
                    Err(other_answer(<Self as TypedCall>::FUNCTION))
                }
            }

            fn from_effect(effect: &Effect) -> Option<&Self> {
                if let Effect::$group($group::$type(call)) = effect { Some(call) } else { None }
            }
        }
    };
}

crate::each_capability! { [define_effects] }

fn other_answer(function: Function) -> Error {
    Error::Unavailable(format!("{} was answered with the answer of another call", function.name()))
}

/// Reads `{"call": ..., "with": ...}`.
fn journal_form<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(Function, Value), D::Error> {
    #[derive(Deserialize)]
    struct Form {
        call: String,
        with: Value,
    }
    let Form { call, with } = Form::deserialize(deserializer)?;
    let function = Function::ALL.iter().find(|function| function.name() == call);
    function
        .map(|function| (*function, with))
        .ok_or_else(|| de::Error::custom(format!("unknown function {call:?}")))
}

impl Capability {
    /// Returns the capability of a WIT interface. The host's own capabilities have none.
    pub fn of_interface(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|capability| capability.name() == name)?;
        (found.access() != Access::Internal).then_some(*found)
    }

    /// Returns all capabilities with a WIT interface.
    pub fn interfaces() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|capability| capability.access() != Access::Internal)
    }

    /// Returns all capabilities that a grant can name.
    pub fn grantable() -> impl Iterator<Item = Self> {
        Self::interfaces().filter(|capability| capability.access() != Access::Builtin)
    }

    /// Returns whether a grant of it must name kinds.
    pub fn requires_kinds(self) -> bool {
        static REQUIRING: LazyLock<Vec<Capability>> = LazyLock::new(|| {
            let requires = |capability: &Capability| capability.grant_shape().kinds.is_required();
            Capability::ALL.iter().copied().filter(requires).collect()
        });
        REQUIRING.contains(&self)
    }

    /// Returns by what the answers of its functions can show a problem.
    pub fn predicate(self) -> Predicate {
        let predicates = self.functions().map(Function::predicate);
        predicates.into_iter().find(|one| *one != Predicate::None).unwrap_or(Predicate::None)
    }

    pub fn functions(self) -> impl Iterator<Item = Function> {
        Function::ALL.iter().copied().filter(move |function| function.capability() == self)
    }
}

impl std::fmt::Display for Capability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = || Self::grantable().map(Self::name).collect::<Vec<_>>().join(", ");
        Self::of_interface(&name).ok_or_else(|| {
            de::Error::custom(format!("unknown capability {name:?}; known: {}", known()))
        })
    }
}

/// The groups of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Local,
    Read,
    Write,
    Reversal,
}

/// Any call.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Local(Local),
    Read(Read),
    Write(Write),
    Reversal(Reversal),
}

impl Effect {
    pub fn function(&self) -> Function {
        match self {
            Self::Local(call) => call.function(),
            Self::Read(call) => call.function(),
            Self::Write(call) => call.function(),
            Self::Reversal(call) => call.function(),
        }
    }

    /// Returns `interface.function`.
    pub fn name(&self) -> &'static str {
        self.function().name()
    }

    pub fn capability(&self) -> Capability {
        self.function().capability()
    }

    pub fn targets(&self) -> Vec<Target> {
        match self {
            Self::Local(call) => call.targets(),
            Self::Read(call) => call.targets(),
            Self::Write(call) => call.targets(),
            Self::Reversal(call) => call.targets(),
        }
    }

    /// # Errors
    /// See [`Call::validate`].
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Local(call) => call.validate(),
            Self::Read(call) => call.validate(),
            Self::Write(call) => call.validate(),
            Self::Reversal(call) => call.validate(),
        }
    }

    /// Reads a journaled answer.
    ///
    /// # Errors
    /// It is not an answer of this function.
    pub fn decode(&self, raw: &RawValue) -> Result<Answer, serde_json::Error> {
        match self {
            Self::Local(call) => call.decode(raw),
            Self::Read(call) => call.decode(raw),
            Self::Write(call) => call.decode(raw),
            Self::Reversal(call) => call.decode(raw),
        }
    }

    /// Returns the fields that its patches may set.
    pub fn fields(&self) -> Vec<FieldPath> {
        match self {
            Self::Local(_) | Self::Read(_) => vec![],
            Self::Write(write) => write.fields(),
            Self::Reversal(reversal) => reversal.fields(),
        }
    }

    /// Its answer depends on when it is made. A run under a fresh plan reuses the plan's answer.
    pub fn observes_time(&self) -> bool {
        match self {
            Self::Local(local) => on_local!(local, |call| call.observes_time()),
            Self::Read(read) => on_read!(read, |call| call.observes_time()),
            Self::Write(_) | Self::Reversal(_) => false,
        }
    }

    /// Returns how long the call waits by its own arguments.
    pub fn waits(&self) -> Duration {
        match self {
            Self::Local(_) | Self::Reversal(_) => Duration::ZERO,
            Self::Read(read) => on_read!(read, |call| call.waits()),
            Self::Write(write) => on_write!(write, |call| call.waits()),
        }
    }

    /// It changes the cluster.
    pub fn changes_cluster(&self) -> bool {
        match self {
            Self::Local(_) | Self::Read(_) => false,
            Self::Write(_) | Self::Reversal(_) => true,
        }
    }

    /// A grant has to allow it. Reversals follow from the write that they reverse.
    pub fn needs_grant(&self) -> bool {
        match self {
            // mutant undo-needs-no-grant: Self::Reversal(_) => false ~> Self::Reversal(_) |
            //     Self::Write(Write::Recreate(_)) => false
            Self::Local(_) | Self::Reversal(_) => false,
            Self::Read(_) | Self::Write(_) => match self.capability().access() {
                Access::Builtin | Access::Internal => false,
                Access::Read | Access::Write => true,
            },
        }
    }

    /// Returns the size of the guest's own text in it, in bytes.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Local(local) => on_local!(local, |call| call.text_bytes()),
            Self::Read(_) | Self::Write(_) | Self::Reversal(_) => 0,
        }
    }
}

impl Serialize for Effect {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Local(call) => call.serialize(serializer),
            Self::Read(call) => call.serialize(serializer),
            Self::Write(call) => call.serialize(serializer),
            Self::Reversal(call) => call.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Effect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (function, with) = journal_form(deserializer)?;
        let read = match function.group() {
            Group::Local => Local::parse(function, with).map(|call| call.map(Self::Local)),
            Group::Read => Read::parse(function, with).map(|call| call.map(Self::Read)),
            Group::Write => Write::parse(function, with).map(|call| call.map(Self::Write)),
            Group::Reversal => Reversal::parse(function, with).map(|call| call.map(Self::Reversal)),
        };
        let read = read.expect("a function is in the enum of its group");
        read.map_err(|error| de::Error::custom(format!("{}: {error}", function.name())))
    }
}
