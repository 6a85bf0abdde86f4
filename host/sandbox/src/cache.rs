//! Compiled code, cached between processes.
//!
//! Cached code is native code that this process will execute, so loading it is `unsafe`. It is
//! loaded only from a directory that no other user can write to: a real directory of mode 0700 and
//! regular files of mode 0600, all owned by the user of this process. This trusts that user and
//! root, who could attack this process directly, and no one else. A checksum in each file detects
//! damage, such as a file cut short by a power failure. It does not authenticate the file.
//!
//! An error here never fails a run: the component is compiled instead.

use crate::load_error::LoadError;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

const CHECKSUM_BYTES: usize = 32;

/// A private directory of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// The user of this process.
    user: owner::User,
}

impl Cache {
    /// Opens the cache, and creates its directory if it does not exist.
    ///
    /// # Errors
    /// Another user owns the directory or has access to it, or it is a symbolic link.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let user = owner::make_private(folder)?;
        Ok(Self { folder: folder.to_owned(), user })
    }

    /// Returns the component with this SHA-256 digest: from the cache, or compiled and then cached.
    ///
    /// # Guarantees
    /// The loaded code was compiled from a component with this digest, by a compatible engine. Any
    /// other file is replaced, never loaded.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        digest: &str,
        compile: impl FnOnce() -> Result<Vec<u8>, LoadError>,
    ) -> Result<Component, LoadError> {
        let name = file_name(engine, digest);
        match self.load(engine, &name) {
            Ok(component) => return Ok(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%name, "cached code is not used, compiling instead: {error}")
            }
        }
        let code = compile()?;
        let component = from_compiler(engine, &code)?;
        if let Err(error) = self.store(&name, &code) {
            tracing::warn!(%name, "failed to cache compiled code: {error}");
        }
        Ok(component)
    }

    fn load(&self, engine: &Engine, name: &str) -> io::Result<Component> {
        let bytes = owner::read_private(&self.folder.join(name), self.user)?;
        let (stored, code) = bytes
            .split_at_checked(CHECKSUM_BYTES)
            .ok_or_else(|| refused("too short for a checksum"))?;
        if stored != checksum(name, code) {
            return Err(refused("checksum mismatch"));
        }
        // SAFETY: `deserialize` requires the unmodified output of wasmtime's compiler. Only this
        // user and root could have written the file (checked by `read_private`), this user writes
        // only compiler output there (`store`), and the checksum rules out damage. Wasmtime itself
        // rejects the output of another version or other settings.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(engine, code) };
        component.map_err(|e| refused(&format!("{e:#}")))
    }

    /// Writes a temporary file and renames it, so that a reader never finds a partial file.
    fn store(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&checksum(name, code))?;
        file.write_all(code)?;
        file.persist(self.folder.join(name)).map_err(|e| e.error)?;
        Ok(())
    }
}

/// Loads code that this program's own compiler just produced.
pub(crate) fn from_compiler(engine: &Engine, code: &[u8]) -> Result<Component, LoadError> {
    // SAFETY: `deserialize` requires the unmodified output of wasmtime's compiler. The code comes
    // directly from `compile`, in this process or in a child process of this same program.
    #[allow(unsafe_code)]
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|e| LoadError::Host(format!("failed to load compiled code: {e:#}")))
}

/// Returns the name under which compiled code is cached: the digest of the component and the
/// fingerprint of the engine (wasmtime's version and settings).
fn file_name(engine: &Engine, digest: &str) -> String {
    let mut fingerprint = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fingerprint);
    format!("{digest}-{:016x}.compiled", fingerprint.finish())
}

/// Computes the checksum of a cached file. It covers the name, because a file under another file's
/// name is the code of another component.
fn checksum(name: &str, code: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sha = Sha256::new();
    sha.update(name.as_bytes());
    sha.update(b"\0");
    sha.update(code);
    sha.finalize().into()
}

/// Hashes with SHA-256, unlike the hasher of the standard library, whose algorithm may change.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let sha: [u8; 32] = self.0.clone().finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = sha;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(unix)]
mod owner {
    //! Checks who could have written to a path, by owner, mode, and file type.

    use super::{File, Path, Read, fs, io, refused};
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    /// A user ID.
    pub(super) type User = u32;

    /// The permission bits of the group and of others.
    const OTHERS: u32 = 0o077;

    /// Creates the directory with mode 0700, or checks that an existing one is private. Returns the
    /// user of this process.
    pub(super) fn make_private(folder: &Path) -> io::Result<User> {
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let found = fs::symlink_metadata(folder)?;
        if !found.is_dir() {
            return Err(refused("not a directory (symbolic links are not followed)"));
        }
        if found.mode() & OTHERS != 0 {
            let why = format!("other users have access to it; run: chmod 700 {}", folder.display());
            return Err(refused(&why));
        }
        // A new file belongs to the user of this process. Any other way to get the user needs
        // unsafe code.
        let user = tempfile::NamedTempFile::new_in(folder)?.as_file().metadata()?.uid();
        if found.uid() != user {
            return Err(refused("it belongs to another user"));
        }
        Ok(user)
    }

    /// Reads a regular file that belongs to `user` and that no other user can read or write.
    pub(super) fn read_private(path: &Path, user: User) -> io::Result<Vec<u8>> {
        let named = fs::symlink_metadata(path)?;
        if !named.is_file() {
            return Err(refused("not a regular file (symbolic links are not followed)"));
        }
        let mut file = File::open(path)?;
        let opened = file.metadata()?;
        if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
            return Err(refused("it was replaced while it was opened"));
        }
        if opened.uid() != user || opened.mode() & OTHERS != 0 {
            return Err(refused("it belongs to another user, or other users have access to it"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(not(unix))]
mod owner {
    //! Owner and mode cannot be checked here, so nothing is cached.

    use super::{Path, io};

    pub(super) type User = ();

    pub(super) fn make_private(_folder: &Path) -> io::Result<User> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read_private(_path: &Path, _user: User) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Fixture {
        _temp: tempfile::TempDir,
        folder: PathBuf,
        engine: Engine,
        code: Vec<u8>,
    }

    /// Returns a folder that does not exist yet, an engine, and the smallest component.
    fn fixture() -> Fixture {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("salve").join("compiled");
        let engine = crate::engine::engine().unwrap();
        let code = engine.precompile_component(&wat::parse_str("(component)").unwrap()).unwrap();
        Fixture { _temp: temp, folder, engine, code }
    }

    impl Fixture {
        fn cache(&self) -> Cache {
            Cache::open(&self.folder).unwrap()
        }

        /// Loads a component. Returns whether it was compiled.
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
            self.folder.join(file_name(&self.engine, digest))
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_component_is_compiled_once_and_cached_privately() {
        let cached = fixture();
        assert!(cached.compiles("a"));
        assert!(!cached.compiles("a"));
        assert!(cached.compiles("b"), "another component is another file");
        assert_eq!((mode(&cached.folder), mode(&cached.file("a"))), (0o700, 0o600));
    }

    #[test]
    fn a_damaged_file_is_compiled_again() {
        let cached = fixture();
        cached.compiles("a");
        let good = fs::read(cached.file("a")).unwrap();
        for at in [0, CHECKSUM_BYTES, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(cached.file("a"), bad).unwrap();
            assert!(cached.compiles("a"), "byte {at}");
            assert!(!cached.compiles("a"), "byte {at} was repaired");
        }
        for length in [0, CHECKSUM_BYTES - 1, CHECKSUM_BYTES, good.len() - 1] {
            fs::write(cached.file("a"), &good[..length]).unwrap();
            assert!(cached.compiles("a"), "cut to {length} bytes");
        }
    }

    #[test]
    fn a_file_of_another_component_is_not_loaded() {
        let cached = fixture();
        cached.compiles("a");
        fs::copy(cached.file("a"), cached.file("b")).unwrap();
        assert!(cached.compiles("b"));
    }

    #[test]
    fn a_file_of_another_user_is_not_loaded() {
        let cached = fixture();
        cached.compiles("a");
        let cache = cached.cache();
        let read = |user| owner::read_private(&cached.file("a"), user);
        assert!(read(cache.user).is_ok());
        assert!(read(cache.user + 1).is_err());
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        let cached = fixture();
        cached.compiles("a");
        let elsewhere = cached.folder.join("elsewhere");
        fs::rename(cached.file("a"), &elsewhere).unwrap();
        symlink(&elsewhere, cached.file("a")).unwrap();
        assert!(cached.compiles("a"));
        assert!(!cached.file("a").is_symlink(), "replaced by a file");

        let linked = cached.folder.parent().unwrap().join("linked");
        symlink(&cached.folder, &linked).unwrap();
        assert!(Cache::open(&linked).is_err(), "the folder is a link");
    }

    #[test]
    fn paths_that_other_users_can_access_are_not_trusted() {
        for open in [0o640, 0o620, 0o604, 0o602] {
            let cached = fixture();
            cached.compiles("a");
            fs::set_permissions(cached.file("a"), fs::Permissions::from_mode(open)).unwrap();
            assert!(cached.compiles("a"), "{open:o}");
        }
        for open in [0o770, 0o720, 0o707, 0o701] {
            let cached = fixture();
            cached.compiles("a");
            fs::set_permissions(&cached.folder, fs::Permissions::from_mode(open)).unwrap();
            assert!(Cache::open(&cached.folder).is_err(), "{open:o}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_does_not_fail_a_load() {
        let cached = fixture();
        let cache = cached.cache();
        fs::remove_dir_all(&cached.folder).unwrap();
        let component = cache.component(&cached.engine, "a", || Ok(cached.code.clone()));
        assert!(component.is_ok());
    }
}
