use crate::can_be_shown;
use salve_core::effect::Access;
use salve_core::permission::needs::functions;
use salve_sandbox::{Sandbox, inspect};
use std::sync::LazyLock;

/// Larger ones are looked at and not compiled: the fuzzer would wait for the compiler.
const COMPILED: usize = 4096;

/// A component that somebody built, or says that they did.
pub fn component(bytes: &[u8]) {
    static SANDBOX: LazyLock<Sandbox> =
        LazyLock::new(|| Sandbox::new(None).expect("a machine that runs wasm"));
    let inspection = match inspect(bytes) {
        Ok(inspection) => inspection,
        Err(error) => return can_be_shown(&error.to_string()),
    };
    assert_eq!(inspect(bytes).as_ref(), Ok(&inspection));
    assert_eq!(inspection.size, bytes.len());
    inspection.unknown_functions();
    inspection.upper_bound();
    functions(inspection.imported());
    inspection.capabilities(Access::Builtin);
    if bytes.len() <= COMPILED
        && let Err(error) = SANDBOX.load(bytes)
    {
        can_be_shown(&error.to_string());
    }
}
