//! Compiled code, kept between processes. It is native code, so it is loaded only where this very
//! installation wrote it: a private folder, and a seal (HMAC-SHA256) by a key that lies there.
//!
//! Nothing that goes wrong here fails a run: the component is compiled instead.

use crate::load_error::LoadError;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

const KEY: &str = "key";
const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 32;

/// A folder of compiled components that can be trusted.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// Opens the folder, makes it where it is missing, and refuses it where others could have written to it.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        owner::make_private(folder)?;
        let path = folder.join(KEY);
        let key = match read_key(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                replace(folder, KEY, &[&key])?;
                // Another process may have been faster: what lies there now is the key.
                read_key(&path)?
            }
            read => read?,
        };
        Ok(Self { folder: folder.to_owned(), key })
    }

    /// The component of this digest: out of the folder, or compiled and then kept.
    ///
    /// # Guarantees
    /// What is loaded carries the seal of this installation over its name and every byte. Whatever does
    /// not is overwritten, never loaded.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: &str,
        compile: impl FnOnce() -> Result<Vec<u8>, LoadError>,
    ) -> Result<Component, LoadError> {
        let name = name(engine, digest);
        match self.load(engine, &name) {
            Ok(component) => return Ok(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%name, "kept code is not used, compiling instead: {error}")
            }
        }
        let code = compile()?;
        let component = just_compiled(engine, &code)?;
        if let Err(error) = self.keep(&name, &code) {
            tracing::warn!(%name, "compiled code could not be kept: {error}");
        }
        Ok(component)
    }

    fn load(&self, engine: &Engine, name: &str) -> io::Result<Component> {
        let sealed = owner::read_own(&self.folder.join(name))?;
        let (seal, code) = sealed
            .split_at_checked(SEAL_BYTES)
            .ok_or_else(|| refused("it is too short for a seal"))?;
        self.mac(name, code)
            .verify_slice(seal)
            .map_err(|_| refused("its seal is not of this installation"))?;
        // SAFETY: `deserialize` wants bytes that `Component::serialize` made. The seal over name and
        // code says that `keep` below wrote them, with a key that only this user can read; a version or
        // setting of wasmtime that does not fit is refused by wasmtime itself.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.map_err(|e| refused(&format!("{e:#}")))
    }

    fn keep(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let seal = self.mac(name, code).finalize().into_bytes();
        replace(&self.folder, name, &[&seal, code])
    }

    /// The name is sealed too: one authentic file in another's place is a foreign file.
    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key)
            .expect("HMAC takes keys of every length");
        mac.update(name.as_bytes());
        mac.update(b"\0");
        mac.update(code);
        mac
    }
}

/// Takes in code that this program's own compiler has just made.
pub(crate) fn just_compiled(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: `deserialize` wants bytes that wasmtime's compiler made. They came this moment from `compile`, in this process or in one
    // that this very program started for it; nobody else has held them.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, code) };
    component
        .map_err(|e| LoadError::Host(format!("code that was just compiled does not load: {e:#}")))
}

/// What is kept under one name was compiled from these bytes by this version with these settings.
fn name(engine: &Engine, digest: &str) -> String {
    let mut settings = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut settings);
    format!("{digest}-{:016x}.compiled", settings.finish())
}

fn read_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    owner::read_own(path)?.try_into().map_err(|_| refused("the key has another length"))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// Writes beside and renames, so that a reader finds the old or the new file and never half of one.
fn replace(folder: &Path, name: &str, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.persist(folder.join(name)).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(unix)]
mod owner {
    //! Who could have written to a path: checked by owner, mode and kind.

    use super::{File, Path, Read, fs, io, refused};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    const OTHERS: u32 = 0o077;

    /// Makes the folder with mode 0700, or checks that it is one: a real folder, ours, closed to others.
    pub(super) fn make_private(folder: &Path) -> io::Result<()> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let found = fs::symlink_metadata(folder)?;
        if !found.is_dir() {
            return Err(refused("it is no folder of its own; a symbolic link is not followed"));
        }
        if found.mode() & OTHERS != 0 {
            return Err(refused("others may enter it; `chmod 700` would do"));
        }
        // What we make now is ours: there is no other way to ask who we are without unsafe code.
        let ours = tempfile::NamedTempFile::new_in(folder)?.as_file().metadata()?.uid();
        if found.uid() != ours {
            return Err(refused("it belongs to another user"));
        }
        Ok(())
    }

    /// Reads a file that only its owner can write, the owner of the folder; a link is not followed.
    pub(super) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
        let named = fs::symlink_metadata(path)?;
        if !named.is_file() {
            return Err(refused("it is no plain file; a symbolic link is not followed"));
        }
        let mut file = File::open(path)?;
        let opened = file.metadata()?;
        let folder = fs::symlink_metadata(path.parent().unwrap_or(Path::new(".")))?;
        if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
            return Err(refused("it was exchanged while it was opened"));
        }
        if opened.uid() != folder.uid() || opened.mode() & OTHERS != 0 {
            return Err(refused("it belongs to another user, or others may read or write it"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(not(unix))]
mod owner {
    //! Owner and mode are not known here, so nothing is kept.

    use super::{Path, io};

    pub(super) fn make_private(_folder: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) fn read_own(_path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Kept {
        _temp: tempfile::TempDir,
        folder: PathBuf,
        engine: Engine,
        code: Vec<u8>,
    }

    /// A folder that does not exist yet, an engine, and the smallest component.
    fn fresh() -> Kept {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("salve").join("compiled");
        let engine = crate::engine::engine().unwrap();
        let code = engine.precompile_component(&wat::parse_str("(component)").unwrap()).unwrap();
        Kept { _temp: temp, folder, engine, code }
    }

    impl Kept {
        fn cache(&self) -> Cache {
            Cache::open(&self.folder).unwrap()
        }
        /// Whether this was answered by compiling.
        fn compiles(&self, digest: &str) -> bool {
            let compiled = Cell::new(false);
            let compile = || {
                compiled.set(true);
                Ok(self.code.clone())
            };
            self.cache().component(&self.engine, digest, compile).unwrap();
            compiled.get()
        }
        fn file(&self, digest: &str) -> PathBuf {
            self.folder.join(name(&self.engine, digest))
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_component_is_compiled_once_and_kept_privately() {
        let kept = fresh();
        assert!(kept.compiles("a"));
        assert!(!kept.compiles("a"));
        assert!(kept.compiles("b"), "another component is another file");
        assert_eq!(
            (mode(&kept.folder), mode(&kept.file("a")), mode(&kept.folder.join(KEY))),
            (0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn any_flipped_byte_is_noticed_and_the_file_is_made_anew() {
        let kept = fresh();
        kept.compiles("a");
        let good = fs::read(kept.file("a")).unwrap();
        for at in [0, SEAL_BYTES, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(kept.file("a"), bad).unwrap();
            assert!(kept.compiles("a"), "byte {at}");
            assert!(!kept.compiles("a"), "byte {at} was mended");
        }
        fs::write(kept.file("a"), &good[..SEAL_BYTES - 1]).unwrap();
        assert!(kept.compiles("a"), "cut short");
    }

    #[test]
    fn a_foreign_file_is_not_loaded_even_if_it_is_authentic_elsewhere() {
        let kept = fresh();
        kept.compiles("a");
        fs::copy(kept.file("a"), kept.file("b")).unwrap();
        assert!(kept.compiles("b"), "sealed under another name");

        let other = fresh();
        other.compiles("c");
        fs::copy(other.file("c"), kept.file("c")).unwrap();
        assert!(kept.compiles("c"), "sealed by another installation");
    }

    #[test]
    fn another_key_makes_everything_foreign() {
        let kept = fresh();
        kept.compiles("a");
        fs::remove_file(kept.folder.join(KEY)).unwrap();
        assert!(kept.compiles("a"));
        assert!(!kept.compiles("a"));
        fs::write(kept.folder.join(KEY), [0; KEY_BYTES - 1]).unwrap();
        assert!(Cache::open(&kept.folder).is_err(), "half a key is none");
    }

    #[test]
    fn links_are_not_followed() {
        let kept = fresh();
        kept.compiles("a");
        let elsewhere = kept.folder.join("elsewhere");
        fs::rename(kept.file("a"), &elsewhere).unwrap();
        symlink(&elsewhere, kept.file("a")).unwrap();
        assert!(kept.compiles("a"));
        assert!(!kept.file("a").is_symlink(), "replaced by a file");

        let linked = kept.folder.parent().unwrap().join("linked");
        symlink(&kept.folder, &linked).unwrap();
        assert!(Cache::open(&linked).is_err(), "nor is the folder itself a link");
        let key = kept.folder.join(KEY);
        fs::rename(&key, kept.folder.join("moved")).unwrap();
        symlink(kept.folder.join("moved"), &key).unwrap();
        assert!(Cache::open(&kept.folder).is_err(), "nor the key");
    }

    #[test]
    fn what_others_could_write_is_not_trusted() {
        let kept = fresh();
        kept.compiles("a");
        fs::set_permissions(kept.file("a"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(kept.compiles("a"));
        fs::set_permissions(&kept.folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(&kept.folder).is_err());
    }

    #[test]
    fn a_folder_that_takes_nothing_does_not_stop_a_component() {
        let kept = fresh();
        let cache = kept.cache();
        fs::remove_dir_all(&kept.folder).unwrap();
        let component = cache.component(&kept.engine, "a", || Ok(kept.code.clone()));
        assert!(component.is_ok());
    }
}
