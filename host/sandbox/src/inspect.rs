//! Looks at a component before anything compiles or links it: what it asks for, and whether it can be ours at all.
//!
//! Only names and types are read here. What a capability may do, the grants decide elsewhere.

use crate::contract::{self, PACKAGE, VERSION};
use crate::load_error::LoadError;
use salve_core::digest;
use salve_core::effect::{Access, CAPABILITIES};
use salve_core::sanitize::sanitized;
use std::collections::BTreeSet;
use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::TypesRef;
use wasmparser::{Encoding, KnownCustom, Parser, Payload, ProducersSectionReader, Validator};

/// So many makers are kept, of so many characters.
const MAKERS: usize = 32;
const MAKER: usize = 60;

/// The largest component that is looked at.
pub const SIZE_CEILING: usize = 64 << 20;

/// Components and modules may lie in each other so deep. Those that tools compose are a handful deep, and what a validator takes grows with
/// the square of it.
pub const DEPTH_CEILING: usize = 64;

/// What makers of components with an interpreter inside call themselves, and the languages that need one. componentize-py (0.25.1 was looked
/// at) leaves no word but that of the tool by which it starts its interpreter beforehand.
const INTERPRETERS: [&str; 5] = ["componentize", "component-init", "python", "javascript", "ruby"];

const EXPORTS: [&str; 3] = ["describe", "diagnose", "remediate"];

/// What a component is, without running any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the component.
    pub digest: String,
    /// Its size in bytes.
    pub size: usize,
    /// What it imports, in its own order.
    pub imports: Vec<Import>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Who made it, by its own words: languages and tools with their versions, `Rust`, `componentize-py 0.25.1`.
    pub made_by: BTreeSet<String>,
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// As the component spells it, e.g. `salve:cluster/query-pvcs@0.1.0`.
    pub name: String,
    /// The functions that it takes from there, e.g. `pvcs` or `cursor.next`.
    pub functions: Vec<String>,
    /// What it is to this host.
    pub kind: ImportKind,
}

/// What an import is to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportKind {
    /// A capability that we know, by the interface's name.
    Capability {
        /// The interface, e.g. `query-pvcs`.
        name: &'static str,
        /// How far it reaches.
        access_of: Access,
    },
    /// Types alone: it needs no linking and gives nothing.
    Words,
    /// Our package in a version that does not go with ours.
    OtherVersion,
    /// WASI: files, clocks, sockets. There is none here.
    Wasi,
    /// Something that no Salve of this version gives.
    Unknown,
}

/// Why imports say no more than what could be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperBound<'a> {
    /// An interpreter runs the guest's code: this maker says so.
    Interpreter(&'a str),
    /// It imports every function that there is, as no program does that is linked by what it calls.
    Everything,
}

impl Inspection {
    /// The capabilities of this reach that it imports.
    pub fn capabilities(&self, wanted: Access) -> Vec<&'static str> {
        self.known().filter(|(_, access_of)| *access_of == wanted).map(|(name, _)| name).collect()
    }

    /// The WASI interfaces that it imports: it cannot run here.
    pub fn wasi(&self) -> Vec<&str> {
        self.names_of(&ImportKind::Wasi)
    }

    /// The interfaces that nobody here knows: it cannot run here.
    pub fn unknown(&self) -> Vec<&str> {
        self.names_of(&ImportKind::Unknown)
    }

    /// Interfaces of our package in another version: it cannot run here.
    pub fn other_version(&self) -> Vec<&str> {
        self.names_of(&ImportKind::OtherVersion)
    }

    pub(crate) fn known(&self) -> impl Iterator<Item = (&'static str, Access)> {
        self.imports.iter().filter_map(|import| match import.kind {
            ImportKind::Capability { name, access_of } => Some((name, access_of)),
            ImportKind::Words
            | ImportKind::OtherVersion
            | ImportKind::Wasi
            | ImportKind::Unknown => None,
        })
    }

    /// The capabilities that it imports, with the functions of each that it takes.
    pub fn imported(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        self.imports.iter().filter_map(|import| match import.kind {
            ImportKind::Capability { name, .. } => Some((name, import.functions.as_slice())),
            ImportKind::Words
            | ImportKind::OtherVersion
            | ImportKind::Wasi
            | ImportKind::Unknown => None,
        })
    }

    fn names_of(&self, kind: &ImportKind) -> Vec<&str> {
        self.imports.iter().filter(|i| i.kind == *kind).map(|i| i.name.as_str()).collect()
    }

    /// Why its imports may say more than its code asks for, as far as it shows: an interpreter imports whatever its world has.
    pub fn upper_bound(&self) -> Option<UpperBound<'_>> {
        let interprets = |maker: &&String| {
            INTERPRETERS.iter().any(|name| maker.to_lowercase().starts_with(name))
        };
        let named =
            self.made_by.iter().find(interprets).map(|maker| UpperBound::Interpreter(maker));
        named.or_else(|| self.imports_everything().then_some(UpperBound::Everything))
    }

    fn imports_everything(&self) -> bool {
        let known = contract::functions();
        CAPABILITIES.iter().all(|(capability, _)| {
            let taken = self
                .imported()
                .find(|(name, _)| name == capability)
                .map_or(&[][..], |(_, functions)| functions);
            known
                .get(*capability)
                .is_some_and(|functions| functions.iter().all(|function| taken.contains(function)))
        })
    }

    /// The functions of our package that this Salve does not have, as `interface.function`.
    pub fn unknown_functions(&self) -> Vec<String> {
        let known = contract::functions();
        let of = |(capability, functions): (&'static str, &[String])| {
            let there = known.get(capability);
            let strange = functions.iter().filter(move |function| {
                !there.is_some_and(|there| there.contains(function.as_str()))
            });
            strange.map(|function| format!("{capability}.{function}")).collect::<Vec<_>>()
        };
        self.imported().flat_map(of).collect()
    }

    /// Whether it can be a remediation for this host, as far as names say. Types are compared when it is linked.
    pub(crate) fn fits(&self) -> Result<(), LoadError> {
        let list = |names: Vec<&str>| names.into_iter().map(sanitized).collect::<Vec<_>>();
        // The most telling first: a component built for WASI imports many things, and all for one reason.
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

/// Looks at a component. No engine, nothing compiled, nothing run.
///
/// # Errors
/// When it is no component, or a damaged one. What it imports is no error here: [`Inspection`] tells.
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
                    imports.extend(look(import.map_err(damaged)?.name.name, types.as_ref()));
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(export.map_err(damaged)?.name.name.to_owned());
                }
            }
            // Whatever else stands in it was validated above and says nothing about what it asks for.
            Payload::ComponentImportSection(_) | Payload::ComponentExportSection(_) => {}
            // Of any part of it: an interpreter is a module inside.
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(fields) = section.as_known() {
                    made_by.extend(makers(fields));
                }
            }
            _other_section => {}
        }
    }
    Ok(Inspection { digest: digest::of_bytes(bytes), size: bytes.len(), imports, exports, made_by })
}

/// What a producers section says. One that cannot be read says nothing: it is for people.
/// <https://github.com/WebAssembly/tool-conventions/blob/main/ProducersSection.md>
fn makers(fields: ProducersSectionReader<'_>) -> Vec<String> {
    let values = fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten());
    values
        .take(MAKERS)
        .map(|value| {
            format!("{} {}", value.name, value.version).trim().chars().take(MAKER).collect()
        })
        .collect()
}

/// Cheap, whatever stands in it: nothing but the heads of sections is read.
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
        let on_start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]);
        return Err(LoadError::NotWasm { on_start: sanitized(&on_start) });
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Component, .. })) => Ok(()),
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => Err(LoadError::CoreModule),
        Some(Ok(_)) | None => Err(LoadError::Damaged("it has no header".into())),
        Some(Err(error)) => Err(LoadError::Damaged(sanitized(&error.to_string()))),
    }
}

/// None for a type that the world itself names: a word, and of no interface.
fn look(name: &str, types: TypesRef<'_>) -> Option<Import> {
    let ty = types.component_item_for_import(name).map(|item| &item.ty);
    let (functions, resources) = match ty {
        Some(ComponentEntityType::Instance(id)) => {
            let exports = &types[*id].exports;
            let functions = exports
                .iter()
                .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
                .map(|(name, _)| function(name))
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
    let only_words = match ty {
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
    let kind = if only_words { ImportKind::Words } else { kind_of(name) };
    Some(Import { name: name.to_owned(), functions, kind })
}

/// `[method]cursor.next` as people say it.
fn function(name: &str) -> String {
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
    if !version.is_some_and(goes_with_ours) {
        return ImportKind::OtherVersion;
    }
    match CAPABILITIES.iter().find(|(known, _)| *known == interface) {
        Some((name, access_of)) => ImportKind::Capability { name, access_of: *access_of },
        None => ImportKind::Unknown,
    }
}

/// Whether semver calls it compatible: what wasmtime's linker does with two versions.
fn goes_with_ours(version: &str) -> bool {
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
