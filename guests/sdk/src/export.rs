//! Exports a guest as a component, and reports its panics to the host.

use crate::Error;
use crate::bindings::salve::cluster::run;
use crate::report::{Conclusion, Description, Diagnosis};

/// A remediation. Pass the type to [`remediation!`](crate::remediation) to export it.
pub trait Remediation {
    /// Describes the guest. Must not call any capability.
    fn describe() -> Description;

    /// Checks for the problem. The host denies every write.
    fn diagnose(config: &str) -> Result<Diagnosis, Error>;

    /// Fixes the problem, or says why it did not.
    fn remediate(config: &str) -> Result<Conclusion, Error>;
}

/// Reports a panic to the host with `run.note`, because the trap itself only says `unreachable`.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        run::note(run::Level::Warning, &format!("panicked{place}: {message}"));
    }));
}

/// Exports a [`Remediation`] as the component's world.
///
/// Does nothing on targets other than `wasm32`, where the type can be tested like any other.
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
                    $crate::install_panic_hook();
                    <$guest as $crate::Remediation>::describe()
                }

                fn diagnose(
                    config: String,
                ) -> Result<$crate::report::Diagnosis, $crate::Error> {
                    $crate::install_panic_hook();
                    <$guest as $crate::Remediation>::diagnose(&config)
                }

                fn remediate(
                    config: String,
                ) -> Result<$crate::report::Conclusion, $crate::Error> {
                    $crate::install_panic_hook();
                    <$guest as $crate::Remediation>::remediate(&config)
                }
            }

            $crate::bindings::export_remediation!(Exports with_types_in $crate::bindings);
        }
    };
}
