//! The folders of run files and compiled components, and the names of runs.

use crate::output::CommandError;
use salve_core::Millis;
use salve_core::journal::{Entry, Header};
use salve_run::RunFile;
use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns the folder of run files: `given`, or the default in the user's state folder.
pub fn folder(given: Option<&PathBuf>) -> Result<PathBuf, CommandError> {
    let default =
        || xdg_folder("XDG_STATE_HOME", ".local/state").map(|state| state.join("salve/runs"));
    given.cloned().or_else(default).ok_or_else(|| {
        CommandError::usage(
            "no folder for run files: neither XDG_STATE_HOME nor HOME is set. Pass --runs DIR",
        )
    })
}

/// Returns the folder of compiled components, or `None` for a user without a home folder: a folder
/// that others can create, as in /tmp, must not contain code.
pub fn cache() -> Option<PathBuf> {
    xdg_folder("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("salve/compiled"))
}

fn xdg_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))
}

/// Returns all run files of a folder, sorted by name and thus by date. A folder that does not exist
/// has none.
pub fn all(folder: &Path) -> Result<Vec<PathBuf>, CommandError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(CommandError::host(format!("{}: {e}", folder.display()))),
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    Ok(files)
}

/// Returns the only run file whose ID starts with `id`.
pub fn find(folder: &Path, id: &str) -> Result<PathBuf, CommandError> {
    let matches = |path: &PathBuf| {
        path.file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.rsplit('-').next())
            .is_some_and(|run| run.starts_with(id))
    };
    let found: Vec<_> = all(folder)?.into_iter().filter(matches).collect();
    match found.as_slice() {
        [path] if !id.is_empty() => Ok(path.clone()),
        [] | [_] => Err(CommandError::usage(format!(
            "no run or plan {id:?} in {}; `salve runs` lists them",
            folder.display()
        ))),
        several => Err(CommandError::usage(format!(
            "{id:?} is ambiguous: the IDs of {} runs start with it",
            several.len()
        ))),
    }
}

/// Returns the run file for `run`: a path, or the beginning of an ID.
pub fn resolve(folder: &Path, run: &str) -> Result<PathBuf, CommandError> {
    let path = PathBuf::from(run);
    if path.is_file() { Ok(path) } else { find(folder, run) }
}

/// Returns whether another user or program may have written a file: it is outside the folder of
/// this machine's runs, or not accessible to the current user only.
pub fn is_foreign(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let inside = matches!(
        (real(path), real(folder)),
        (Some(path), Some(folder)) if path.parent() == Some(&folder)
    );
    let private = std::fs::metadata(path).is_ok_and(|found| {
        found.mode() & 0o077 == 0 && found.uid() == rustix::process::geteuid().as_raw()
    });
    // mutant world-writable-file-trusted: !(inside && private) ~> { let _ = private; !inside }
    // mutant foreign-folder-trusted: !(inside && private) ~> { let _ = inside; !private }
    !(inside && private)
}

/// Returns the header of a run file.
pub fn header<'a>(entries: &'a [Entry], path: &Path) -> Result<&'a Header, CommandError> {
    if entries.is_empty() {
        return Err(CommandError::document(format!(
            "{}: no entries: the run ended before it could change anything",
            path.display()
        )));
    }
    entries.first().and_then(Entry::header).ok_or_else(|| {
        CommandError::document(format!(
            "{}: not a run file: the first line is not a run's header",
            path.display()
        ))
    })
}

/// Reads only the header of a run file. None if it cannot be read, or is of another version.
pub fn read_header(path: &Path) -> Option<Header> {
    RunFile::read_first(path).ok()??.header().cloned()
}

/// Generates the ID of a new run: eight hexadecimal digits.
pub fn new_id() -> Result<String, CommandError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|e| CommandError::host(format!("failed to generate a run ID: {e}")))?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

/// Returns the file name of a run: date, context, and ID. Characters of the context that are not
/// alphanumeric are replaced, so that it cannot form a path.
pub fn file_name(at: Millis, context: &str, id: &str) -> String {
    let date = jiff::Timestamp::from_millisecond(at as i64)
        .map(|t| t.strftime("%Y-%m-%d").to_string())
        .unwrap_or_else(|_| "undated".into());
    let context: String =
        context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    format!("{date}-{}-{id}.jsonl", context.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_name_cannot_escape_the_folder() {
        assert_eq!(file_name(0, "../../etc/cron d", "0a"), "1970-01-01-etc-cron-d-0a.jsonl");
    }
}
