//! Inspects a component before it is compiled or linked: what it imports, and whether it can run
//! here.
//!
//! This reads only names and types. Grants decide elsewhere what a capability may do.

use crate::contract::{self, PACKAGE, VERSION};
use crate::load_error::LoadError;
use salve_core::capability::{Access, Capability};
use salve_core::digest;
use salve_core::sanitize::sanitized;
use std::collections::BTreeSet;
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::TypesRef;
use wasmparser::{Encoding, KnownCustom, Parser, Payload, ProducersSectionReader, Validator};

/// Maximum number of producers listed per section, and the characters kept of each.
const MAX_PRODUCERS: usize = 32;
const MAX_PRODUCER_CHARS: usize = 60;

/// Maximum size of a component, in bytes.
pub const SIZE_CEILING: usize = 64 << 20;

/// Maximum nesting of components and modules. Composed components are a handful deep, and the cost
/// of validation grows with the square of the depth.
pub const DEPTH_CEILING: usize = 64;

/// Prefixes of producers whose components contain an interpreter, and of languages that need one.
/// componentize-py (0.25.1) leaves only the name of the tool that pre-initializes its interpreter.
const INTERPRETERS: [&str; 5] = ["componentize", "component-init", "python", "javascript", "ruby"];

/// The interface that has functions and is not a capability.
const REVERSALS: &str = "reversals";

const EXPORTS: [&str; 3] = ["describe", "diagnose", "remediate"];

/// What is known about a component without running it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the component, in lowercase hex.
    pub digest: String,
    /// In bytes.
    pub size: usize,
    /// In the order of the component.
    pub imports: Vec<Import>,
    pub exports: Vec<String>,
    /// Languages and tools with their versions, as the component declares them: `Rust`,
    /// `componentize-py 0.25.1`.
    pub made_by: BTreeSet<String>,
}

/// An imported interface, or another import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// As in the component, such as `salve:cluster/query-pvcs@0.1.0`.
    pub name: String,
    /// The imported functions, such as `list-pvcs` or `cursor.next`.
    pub functions: Vec<String>,
    pub kind: ImportKind,
}

/// What an import means to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportKind {
    Capability(Capability),
    /// An interface that capabilities share: one without functions, or `reversals`. It needs no
    /// grant.
    Shared,
    /// An incompatible version of this host's package.
    OtherVersion,
    /// WASI (files, clocks, sockets), which this host does not provide.
    Wasi,
    /// Anything else: this host does not provide it.
    Unknown,
}

/// Why the imports are only an upper bound of what a guest can call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperBound<'a> {
    /// An interpreter runs the guest's code. The value is the producer that says so.
    Interpreter(&'a str),
    /// The component imports every function, unlike any program that imports only what it calls.
    Everything,
}

impl Import {
    fn capability(&self) -> Option<Capability> {
        match self.kind {
            ImportKind::Capability(capability) => Some(capability),
            ImportKind::Shared
            | ImportKind::OtherVersion
            | ImportKind::Wasi
            | ImportKind::Unknown => None,
        }
    }

    /// Returns the name of this host's interface, such as `query-pvcs`.
    fn interface(&self) -> Option<&'static str> {
        match self.kind {
            ImportKind::Capability(capability) => Some(capability.name()),
            ImportKind::Shared if !self.functions.is_empty() => Some(REVERSALS),
            ImportKind::Shared
            | ImportKind::OtherVersion
            | ImportKind::Wasi
            | ImportKind::Unknown => None,
        }
    }
}

impl Inspection {
    /// Returns the imported capabilities with this access.
    pub fn capabilities(&self, access: Access) -> Vec<Capability> {
        self.known().filter(|capability| capability.access() == access).collect()
    }

    /// Returns the imported WASI interfaces. If there are any, the component cannot run here.
    pub fn wasi(&self) -> Vec<&str> {
        self.names_of(&ImportKind::Wasi)
    }

    /// Returns imports that do not exist here. If there are any, the component cannot run here.
    pub fn unknown(&self) -> Vec<&str> {
        self.names_of(&ImportKind::Unknown)
    }

    /// Returns imports of incompatible versions. If there are any, the component cannot run here.
    pub fn other_version(&self) -> Vec<&str> {
        self.names_of(&ImportKind::OtherVersion)
    }

    pub(crate) fn known(&self) -> impl Iterator<Item = Capability> {
        self.imports.iter().filter_map(Import::capability)
    }

    /// Returns the interfaces of the imported capabilities, each with its imported functions.
    pub fn imported(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.imports
            .iter()
            .filter_map(|import| Some((import.capability()?.name(), import.functions.as_slice())))
    }

    fn names_of(&self, kind: &ImportKind) -> Vec<&str> {
        self.imports.iter().filter(|i| i.kind == *kind).map(|i| i.name.as_str()).collect()
    }

    /// Returns why the component may import more than its code calls, if that is known: an
    /// interpreter imports its whole world.
    pub fn upper_bound(&self) -> Option<UpperBound<'_>> {
        let is_interpreter = |producer: &&String| {
            INTERPRETERS.iter().any(|name| producer.to_lowercase().starts_with(name))
        };
        let interpreter = self.made_by.iter().find(is_interpreter);
        interpreter
            .map(|producer| UpperBound::Interpreter(producer))
            .or_else(|| self.imports_everything().then_some(UpperBound::Everything))
    }

    fn imports_everything(&self) -> bool {
        let known = contract::functions();
        Capability::interfaces().all(|capability| {
            let imported = self
                .imported()
                .find(|(name, _)| *name == capability.name())
                .map_or(&[][..], |(_, functions)| functions);
            known
                .get(capability.name())
                .is_some_and(|functions| functions.iter().all(|name| imported.contains(name)))
        })
    }

    /// Returns the imported functions that this host's interfaces lack, as `interface.function`.
    pub fn unknown_functions(&self) -> Vec<String> {
        let known = contract::functions();
        let unknown = |import: &Import| {
            let Some(interface) = import.interface() else { return vec![] };
            let declared = known.get(interface);
            let unknown = import.functions.iter().filter(|function| {
                !declared.is_some_and(|declared| declared.contains(function.as_str()))
            });
            unknown.map(|function| format!("{interface}.{function}")).collect()
        };
        self.imports.iter().flat_map(unknown).collect()
    }

    /// Checks by name that the component is a remediation for this host. Linking compares the
    /// types.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let list = |names: Vec<&str>| names.into_iter().map(sanitized).collect::<Vec<_>>();
        // The most specific reason first: a component built for WASI has many unknown imports.
        if !self.wasi().is_empty() {
            return Err(LoadError::Wasi(list(self.wasi())));
        }
        if !self.other_version().is_empty() {
            return Err(LoadError::OtherVersion { imports: list(self.other_version()) });
        }
        if !self.unknown().is_empty() {
            return Err(LoadError::Unknown(list(self.unknown())));
        }
        let missing: Vec<_> =
            EXPORTS.into_iter().filter(|name| !self.exports.iter().any(|e| e == name)).collect();
        if !missing.is_empty() {
            return Err(LoadError::OtherWorld {
                missing,
                exports: self.exports.iter().map(|e| sanitized(e)).collect(),
            });
        }
        Ok(())
    }
}

/// Inspects a component without compiling or running it.
///
/// # Errors
/// The file is not a component, too large, nested too deep, or damaged. Imports that this host does
/// not provide are not an error: the [`Inspection`] lists them.
#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of wasmparser, which may grow")]
pub fn inspect(bytes: &[u8]) -> Result<Inspection, LoadError> {
    if bytes.len() > SIZE_CEILING {
        return Err(LoadError::TooLarge { size: bytes.len() });
    }
    check_magic(bytes)?;
    check_depth(bytes)?;
    let types = Validator::new().validate_all(bytes).map_err(damaged)?;
    let mut imports = vec![];
    let mut exports = vec![];
    let mut made_by = BTreeSet::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import.map_err(damaged)?.name.name;
                    imports.extend(inspect_import(name, types.as_ref()));
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            // Imports and exports of nested components are not those of the component itself.
            Payload::ComponentImportSection(_) | Payload::ComponentExportSection(_) => {}
            // At any depth: an interpreter is a nested module.
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    made_by.extend(producers(fields));
                }
            }
            _other_section => {}
        }
    }
    Ok(Inspection { digest: digest::of_bytes(bytes), size: bytes.len(), imports, exports, made_by })
}

/// Returns the producers in a section. Ignores what cannot be parsed: it is only informational.
/// <https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>
fn producers(fields: ProducersSectionReader<'_>) -> Vec<String> {
    let values = fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten());
    values
        .take(MAX_PRODUCERS)
        .map(|value| {
            let producer = format!("{} {}", value.name, value.version);
            producer.trim().chars().take(MAX_PRODUCER_CHARS).collect()
        })
        .collect()
}

/// Checks the nesting. Reads only section headers, so it is cheap for any input.
#[allow(clippy::wildcard_enum_match_arm, reason = "an enum of wasmparser, which may grow")]
fn check_depth(bytes: &[u8]) -> Result<(), LoadError> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _other_section => {}
        }
        // mutant nesting-unbounded: depth > DEPTH_CEILING ~> false
        if depth > DEPTH_CEILING {
            return Err(LoadError::TooDeep);
        }
    }
    Ok(())
}

fn damaged(error: wasmparser::BinaryReaderError) -> LoadError {
    LoadError::Damaged(sanitized(&error.to_string()))
}

fn check_magic(bytes: &[u8]) -> Result<(), LoadError> {
    if !bytes.starts_with(b"\0asm") {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]);
        return Err(LoadError::NotWasm { start: sanitized(&start) });
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => Ok(()),
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => Err(LoadError::CoreModule),
        Some(Ok(_)) | None => Err(LoadError::Damaged("it has no version header".into())),
        Some(Err(error)) => Err(LoadError::Damaged(sanitized(&error.to_string()))),
    }
}

/// Classifies an import. Returns None for a type that the world itself imports: it has no
/// interface.
fn inspect_import(name: &str, types: TypesRef<'_>) -> Option<Import> {
    let ty = types.component_item_for_import(name).map(|item| &item.ty);
    let (functions, resources) = match ty {
        Some(ComponentEntityType::Instance(id)) => {
            let exports = &types[*id].exports;
            let functions = exports
                .iter()
                .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
                .map(|(name, _)| plain_name(name))
                .collect();
            let resources = exports.iter().any(|(_, item)| {
                matches!(
                    item.ty,
                    ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. }
                )
            });
            (functions, resources)
        }
        Some(ComponentEntityType::Func(_)) => (vec![name.to_owned()], false),
        Some(
            ComponentEntityType::Module(_)
            | ComponentEntityType::Value(_)
            | ComponentEntityType::Component(_)
            | ComponentEntityType::Type { .. },
        )
        | None => (vec![], false),
    };
    let types_only = match ty {
        Some(ComponentEntityType::Type { created, .. })
            if !matches!(created, ComponentAnyTypeId::Resource(_)) =>
        {
            return None;
        }
        Some(ComponentEntityType::Instance(_)) => functions.is_empty() && !resources,
        Some(
            ComponentEntityType::Func(_)
            | ComponentEntityType::Module(_)
            | ComponentEntityType::Value(_)
            | ComponentEntityType::Component(_)
            | ComponentEntityType::Type { .. },
        )
        | None => false,
    };
    let kind = if types_only { ImportKind::Shared } else { kind_of(name) };
    Some(Import { name: name.to_owned(), functions, kind })
}

/// Returns `cursor.next` for `[method]cursor.next`.
fn plain_name(name: &str) -> String {
    name.split_once(']').map_or(name, |(_, rest)| rest).to_owned()
}

fn kind_of(name: &str) -> ImportKind {
    if name.starts_with("wasi:") || name.starts_with("wasi_") {
        return ImportKind::Wasi;
    }
    let (path, version) = match name.split_once('@') {
        Some((path, version)) => (path, Some(version)),
        None => (name, None),
    };
    let Some((PACKAGE, interface)) = path.split_once('/') else {
        return ImportKind::Unknown;
    };
    if !version.is_some_and(is_compatible) {
        return ImportKind::OtherVersion;
    }
    match Capability::of_interface(interface) {
        Some(capability) => ImportKind::Capability(capability),
        None if interface == REVERSALS => ImportKind::Shared,
        None => ImportKind::Unknown,
    }
}

/// Returns whether a version is semver-compatible with this host's, as wasmtime's linker decides
/// it.
fn is_compatible(version: &str) -> bool {
    fn track(version: &str) -> Option<(&str, &str)> {
        let mut parts = version.splitn(3, '.');
        let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
        if patch.contains('-') {
            return None;
        }
        Some((major, if major == "0" { minor } else { "" }))
    }
    track(version).is_some() && track(version) == track(VERSION)
}
