//! Where runs and compiled components lie, and what a run is called.

use crate::output::Failed;
use salve_core::Millis;
use salve_core::journal::{Entry, Header};
use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of run files.
pub fn folder(given: Option<&PathBuf>) -> Result<PathBuf, Failed> {
    let local = || base("XDG_STATE_HOME", ".local/state").map(|state| state.join("salve/runs"));
    given.cloned().or_else(local).ok_or_else(|| {
        Failed::usage(
            "neither XDG_STATE_HOME nor HOME is set: say with --runs DIR where run files go",
        )
    })
}

/// The folder of compiled components; none where nobody has a home, for a folder that anybody can make is no place for code.
pub fn cache() -> Option<PathBuf> {
    base("XDG_CACHE_HOME", ".cache").map(|cache| cache.join("salve/compiled"))
}

fn base(variable: &str, below_home: &str) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set(variable).or_else(|| set("HOME").map(|home| home.join(below_home)))
}

/// All run files of a folder, by name: the oldest first. None where there is no folder yet.
pub fn all(folder: &Path) -> Result<Vec<PathBuf>, Failed> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(Failed::host(format!("{}: {e}", folder.display()))),
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    Ok(files)
}

/// The one run file whose id begins so.
pub fn find(folder: &Path, id: &str) -> Result<PathBuf, Failed> {
    let named = |path: &PathBuf| {
        path.file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.rsplit('-').next())
            .is_some_and(|run| run.starts_with(id))
    };
    let found: Vec<_> = all(folder)?.into_iter().filter(named).collect();
    match found.as_slice() {
        [one] if !id.is_empty() => Ok(one.clone()),
        [] | [_] => Err(Failed::usage(format!(
            "no run {id:?} in {}; `salve runs` lists them",
            folder.display()
        ))),
        several => Err(Failed::usage(format!(
            "{} runs begin with {id:?}: give more of the id",
            several.len()
        ))),
    }
}

/// The run file that a person names, by its path or by the beginning of its id.
pub fn given(folder: &Path, run: &str) -> Result<PathBuf, Failed> {
    let path = PathBuf::from(run);
    if path.is_file() { Ok(path) } else { find(folder, run) }
}

/// Whether a file may be anybody's: not in the folder of this machine's runs, or not its owner's alone.
pub fn is_foreign(path: &Path, folder: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let inside = matches!((real(path), real(folder)), (Some(path), Some(folder)) if path.parent() == Some(&folder));
    let local = std::fs::metadata(path).is_ok_and(|found| {
        found.mode() & 0o077 == 0 && found.uid() == rustix::process::geteuid().as_raw()
    });
    // mutant world-writable-file-trusted: !(inside && local) ~> { let _ = local; !inside }
    // mutant foreign-folder-trusted: !(inside && local) ~> { let _ = inside; !local }
    !(inside && local)
}

/// What a run file begins with.
pub fn header<'a>(entries: &'a [Entry], path: &Path) -> Result<&'a Header, Failed> {
    match entries.first() {
        Some(Entry::Header(header)) => Ok(header),
        Some(_) | None => Err(Failed::document(format!(
            "{}: it does not begin with a run's header",
            path.display()
        ))),
    }
}

/// A new run's id: eight hexadecimal digits.
pub fn id() -> Result<String, Failed> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failed::host(format!("the system gives no random bytes: {e}")))?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

/// A run file's name: day, context, id. The context may hold anything, so only what a file name bears stays.
pub fn file_name(at: Millis, context: &str, id: &str) -> String {
    let day = jiff::Timestamp::from_millisecond(at as i64)
        .map(|t| t.strftime("%Y-%m-%d").to_string())
        .unwrap_or_else(|_| "undated".into());
    let context: String =
        context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    format!("{day}-{}-{id}.jsonl", context.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_cannot_lead_out_of_the_folder() {
        assert_eq!(file_name(0, "../../etc/cron d", "0a"), "1970-01-01-etc-cron-d-0a.jsonl");
    }
}
