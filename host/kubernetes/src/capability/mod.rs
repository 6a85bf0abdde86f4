//! How the calls of each capability are performed, one module per capability.

macro_rules! declare_modules {
    // Builtin capabilities need no cluster.
    (@row Builtin $module:ident) => {};
    (@row $access:ident $module:ident) => { pub(crate) mod $module; };
    ({} $($capability:ident $interface:literal $module:ident $access:ident $functions:tt)*) => {
        $(declare_modules! { @row $access $module })*
    };
}
salve_core::each_capability! { [declare_modules] }
