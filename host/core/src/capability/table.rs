//! Which capabilities and functions exist: one row per capability.
//!
//! A row has names only. The arguments, answers, and everything else about a function are in the
//! capability's module; see [`call`](super::call) for the questions that a module answers.

/// Passes all rows to a callback macro.
///
/// A row is the capability, its WIT interface, its module, who may use it, and its functions: each
/// the name of a type in the module and of a function in the interface. `Builtin` capabilities need
/// no grant, `Internal` ones belong to the host and have no WIT interface.
#[macro_export]
macro_rules! each_capability {
    ([$($callback:tt)+] $($arguments:tt)*) => {
        $($callback)+! { { $($arguments)* }
            Run "run" run Builtin {
                local { Now "now" Sleep "sleep" Step "step" Note "note" AskUser "ask" Observed "observed" }
                reads {}
                writes {}
                reversals {}
            }
            Host "host" host Internal {
                local {}
                reads {
                    GetIdentity "get-identity"
                    ReviewAccess "review-access"
                    RequestToken "request-token"
                    CheckPolicies "check-policies"
                    FindLeftovers "find-leftovers"
                }
                writes {}
                reversals {}
            }
            ClusterLock "cluster-lock" cluster_lock Internal {
                local {}
                reads { GetHolder "get-holder" }
                writes { AcquireLease "acquire" }
                reversals { ReleaseLease "release" }
            }
            QueryFlux "query-flux" query_flux Read {
                local {}
                reads { FindOwners "find-owners" GetFluxObject "get" }
                writes {}
                reversals {}
            }
            QueryReplicationsources "query-replicationsources" query_replicationsources Read {
                local {}
                reads { ListSources "list-sources" ListDestinations "list-destinations" }
                writes {}
                reversals {}
            }
            QueryPvcs "query-pvcs" query_pvcs Read {
                local {}
                reads {
                    ListPvcs "list-pvcs"
                    ListSnapshots "list-snapshots"
                    ListOtherVolumes "list-other-volumes"
                }
                writes {}
                reversals {}
            }
            QueryDrivers "query-drivers" query_drivers Read {
                local {}
                reads { FindDriver "find" }
                writes {}
                reversals {}
            }
            QueryPods "query-pods" query_pods Read {
                local {}
                reads { ListPods "list-pods" ListPendingPods "list-pending-pods" }
                writes {}
                reversals {}
            }
            QueryObjects "query-objects" query_objects Read {
                local {}
                reads { ListObjects "list-objects" GetObject "get" }
                writes {}
                reversals {}
            }
            TailLogs "tail-logs" tail_logs Read {
                local {}
                reads { NextPage "next" }
                writes {}
                reversals {}
            }
            SuspendFlux "suspend-flux" suspend_flux Write {
                local {}
                reads {}
                writes { Suspend "suspend" }
                reversals { Resume "resume" }
            }
            ReconcileFlux "reconcile-flux" reconcile_flux Write {
                local {}
                reads {}
                writes { Reconcile "reconcile" }
                reversals {}
            }
            DeleteReplicationsources "delete-replicationsources" delete_replicationsources Write {
                local {}
                reads {}
                writes { Delete "delete" Recreate "recreate" }
                reversals {}
            }
            RestartDeployment "restart-deployment" restart_deployment Write {
                local {}
                reads { AwaitRollout "await-rollout" }
                writes { Restart "restart" }
                reversals {}
            }
            OverrideFields "override-fields" override_fields Write {
                local {}
                reads {}
                writes { Override "set" }
                reversals { Restore "restore" }
            }
        }
    };
}

/// Passes the functions of one group (`local`, `reads`, `writes`, `reversals`) to a callback macro,
/// each as `module Type;`.
#[macro_export]
macro_rules! each_function {
    ($group:ident [$($callback:tt)+] $($arguments:tt)*) => {
        $crate::each_capability! {
            [$crate::functions_of_group] $group [$($callback)+] $($arguments)*
        }
    };
}

/// Selects a group of [`each_capability!`]'s rows. Not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! functions_of_group {
    ({ local [$($callback:tt)+] $($arguments:tt)* } $($capability:ident $interface:literal
        $module:ident $access:ident { local { $($type:ident $name:literal)* } $($rest:tt)* })*) => {
        $($callback)+! { { $($arguments)* } $($($module $type;)*)* }
    };
    ({ reads [$($callback:tt)+] $($arguments:tt)* } $($capability:ident $interface:literal
        $module:ident $access:ident { local $local:tt reads { $($type:ident $name:literal)* }
        $($rest:tt)* })*) => {
        $($callback)+! { { $($arguments)* } $($($module $type;)*)* }
    };
    ({ writes [$($callback:tt)+] $($arguments:tt)* } $($capability:ident $interface:literal
        $module:ident $access:ident { local $local:tt reads $reads:tt
        writes { $($type:ident $name:literal)* } $($rest:tt)* })*) => {
        $($callback)+! { { $($arguments)* } $($($module $type;)*)* }
    };
    ({ reversals [$($callback:tt)+] $($arguments:tt)* } $($capability:ident $interface:literal
        $module:ident $access:ident { local $local:tt reads $reads:tt writes $writes:tt
        reversals { $($type:ident $name:literal)* } })*) => {
        $($callback)+! { { $($arguments)* } $($($module $type;)*)* }
    };
}

/// Evaluates an expression with the call inside a [`Local`](super::Local), in its own type.
#[macro_export]
macro_rules! on_local {
    ($value:expr, |$call:ident| $body:expr) => {
        $crate::each_function! { local [$crate::match_on_call] Local $value, $call, $body }
    };
}

/// Evaluates an expression with the call inside a [`Read`](super::Read), in its own type.
#[macro_export]
macro_rules! on_read {
    ($value:expr, |$call:ident| $body:expr) => {
        $crate::each_function! { reads [$crate::match_on_call] Read $value, $call, $body }
    };
}

/// Evaluates an expression with the call inside a [`Write`](super::Write), in its own type.
#[macro_export]
macro_rules! on_write {
    ($value:expr, |$call:ident| $body:expr) => {
        $crate::each_function! { writes [$crate::match_on_call] Write $value, $call, $body }
    };
}

/// Evaluates an expression with the call inside a [`Reversal`](super::Reversal), in its own type.
#[macro_export]
macro_rules! on_reversal {
    ($value:expr, |$call:ident| $body:expr) => {
        $crate::each_function! { reversals [$crate::match_on_call] Reversal $value, $call, $body }
    };
}

/// Expands to the `match` of the macros above. Not for direct use.
#[doc(hidden)]
#[macro_export]
macro_rules! match_on_call {
    ({ $group:ident $value:expr, $call:ident, $body:expr } $($module:ident $type:ident;)*) => {
        match $value { $($crate::capability::$group::$type($call) => $body,)* }
    };
}
