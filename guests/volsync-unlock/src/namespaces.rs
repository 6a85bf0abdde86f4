//! Resolves the configured namespaces, names and globs, against those that exist.

/// What the configured names and globs match.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ResolvedNamespaces {
    /// Existing namespaces in the order of the configuration, without duplicates.
    pub existing: Vec<String>,
    /// Configured names and globs that match nothing usable, one sentence each.
    pub warnings: Vec<String>,
}

/// A namespace of the cluster.
#[derive(Clone, Debug)]
pub struct Namespace {
    pub name: String,
    pub is_terminating: bool,
}

/// Matches the configured names and globs with the namespaces of the cluster.
pub fn resolve(configured: &[String], namespaces: &[Namespace]) -> ResolvedNamespaces {
    let mut resolved = ResolvedNamespaces::default();
    for glob in configured {
        let matching: Vec<&Namespace> =
            namespaces.iter().filter(|namespace| matches(glob, &namespace.name)).collect();
        if matching.is_empty() {
            resolved.warnings.push(if is_glob(glob) {
                format!("no namespace matches {glob}")
            } else {
                format!("namespace {glob} does not exist")
            });
        }
        for namespace in matching {
            if resolved.existing.contains(&namespace.name) {
                continue;
            }
            if namespace.is_terminating {
                let warning = format!("namespace {} is being deleted: skipped", namespace.name);
                if !resolved.warnings.contains(&warning) {
                    resolved.warnings.push(warning);
                }
            } else {
                resolved.existing.push(namespace.name.clone());
            }
        }
    }
    resolved
}

/// Returns whether the text has wildcards.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// Matches a name. `*` matches any number of characters, `?` exactly one. Backtracks only to the
/// last `*`, so no pattern takes exponential time.
fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if g < glob.len() && glob[g] == b'*' {
            retry = Some((g + 1, n));
            g += 1;
        } else if g < glob.len() && (glob[g] == b'?' || glob[g] == name[n]) {
            g += 1;
            n += 1;
        } else if let Some((after_star, consumed)) = retry {
            retry = Some((after_star, consumed + 1));
            g = after_star;
            n = consumed + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
#[path = "tests/namespaces.rs"]
mod tests;
