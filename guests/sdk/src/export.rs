//! The way out of a guest: three functions, and a panic that is heard.

use crate::Error;
use crate::bindings::salve::cluster::run;
use crate::report::{Conclusion, Description, Diagnosis};

/// A remediation. Hand the type to [`remediation!`](crate::remediation) to export it.
pub trait Remediation {
    /// What this guest is. Calls nothing: the host asks with every capability out of reach.
    fn describe() -> Description;

    /// Is it this incident? Looks only: the host refuses every touch.
    fn diagnose(config: &str) -> Result<Diagnosis, Error>;

    /// Mends it, or says why not.
    fn remediate(config: &str) -> Result<Conclusion, Error>;
}

/// Writes the text of a panic into the run's record: a trap alone says only `unreachable`.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        run::note(run::Level::Warning, &format!("the guest broke: {panic}"));
    }));
}

/// Exports a [`Remediation`] as the component's world.
///
/// Only for the sandbox: natively the type is tested as any other.
#[macro_export]
macro_rules! remediation {
    ($guest:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: the component's exports")]
        mod exports {
            use super::*;

            struct Exports;

            impl $crate::bindings::Guest for Exports {
                fn describe() -> $crate::report::Description {
                    $crate::keep_panics();
                    <$guest as $crate::Remediation>::describe()
                }

                fn diagnose(
                    config: String,
                ) -> Result<$crate::report::Diagnosis, $crate::Error> {
                    $crate::keep_panics();
                    <$guest as $crate::Remediation>::diagnose(&config)
                }

                fn remediate(
                    config: String,
                ) -> Result<$crate::report::Conclusion, $crate::Error> {
                    $crate::keep_panics();
                    <$guest as $crate::Remediation>::remediate(&config)
                }
            }

            $crate::bindings::export_remediation!(Exports with_types_in $crate::bindings);
        }
    };
}
