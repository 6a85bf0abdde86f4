//! The capabilities of core's table that have a WIT interface.

/// Passes them to a callback macro, each as `Capability "interface" module;`. The host's own
/// capabilities have no interface and are left out.
macro_rules! each_interface {
    ([$($callback:tt)+]) => {
        salve_core::each_capability! { [$crate::interfaces::each_interface] [$($callback)+] }
    };
    ({ [$($callback:tt)+] $($found:tt)* }) => {
        $($callback)+! { $($found)* }
    };
    ({ $($state:tt)* } $capability:ident $interface:literal $module:ident Internal
        $functions:tt $($rest:tt)*) => {
        $crate::interfaces::each_interface! { { $($state)* } $($rest)* }
    };
    ({ $($state:tt)* } $capability:ident $interface:literal $module:ident $access:ident
        $functions:tt $($rest:tt)*) => {
        $crate::interfaces::each_interface! {
            { $($state)* $capability $interface $module; } $($rest)*
        }
    };
}

pub(crate) use each_interface;
