use crate::assert_printable;
use salve_core::capability::Access;
use salve_core::permission::needs::functions;
use salve_sandbox::{Sandbox, inspect};
use std::sync::LazyLock;

/// Size limit for compiling a component, in bytes. Larger ones are only inspected, because the
/// fuzzer would mostly wait for the compiler.
const MAX_COMPILED: usize = 4096;

/// Checks bytes that claim to be a component.
pub fn component(bytes: &[u8]) {
    static SANDBOX: LazyLock<Sandbox> =
        LazyLock::new(|| Sandbox::new(None).expect("this machine runs WebAssembly"));
    let inspection = match inspect(bytes) {
        Ok(inspection) => inspection,
        Err(error) => return assert_printable(&error.to_string()),
    };
    assert_eq!(inspect(bytes).as_ref(), Ok(&inspection));
    assert_eq!(inspection.size, bytes.len());
    inspection.unknown_functions();
    inspection.upper_bound();
    functions(inspection.imported());
    inspection.capabilities(Access::Builtin);
    if bytes.len() <= MAX_COMPILED
        && let Err(error) = SANDBOX.load(bytes)
    {
        assert_printable(&error.to_string());
    }
}
