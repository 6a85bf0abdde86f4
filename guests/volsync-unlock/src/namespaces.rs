//! Which namespaces are meant: names and globs against those that exist.

/// What became of the configured names and globs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Meant {
    /// They exist, in the order of the configuration, each once.
    pub present: Vec<String>,
    /// What is listed but is not there, one sentence each.
    pub remarks: Vec<String>,
}

/// A namespace of the cluster.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// It is being deleted.
    pub terminating: bool,
}

/// Finds what `listed` means among the namespaces of the cluster.
pub fn expand(listed: &[String], existing: &[Namespace]) -> Meant {
    let mut meant = Meant::default();
    for glob in listed {
        let fitting: Vec<&Namespace> =
            existing.iter().filter(|one| fits(glob, &one.name)).collect();
        if fitting.is_empty() {
            let what = if is_glob(glob) { "no namespace fits" } else { "there is no namespace" };
            meant.remarks.push(format!("{what} {glob}"));
        }
        for namespace in fitting {
            if meant.present.contains(&namespace.name) {
                continue;
            }
            if namespace.terminating {
                let remark =
                    format!("namespace {} is being deleted itself: left out", namespace.name);
                if !meant.remarks.contains(&remark) {
                    meant.remarks.push(remark);
                }
            } else {
                meant.present.push(namespace.name.clone());
            }
        }
    }
    meant
}

/// Whether this is more than a name.
pub fn is_glob(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// `*` stands for any run of characters, `?` for one. Linear, whatever the pattern.
fn fits(glob: &str, name: &str) -> bool {
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
        } else if let Some((after_star, taken)) = retry {
            retry = Some((after_star, taken + 1));
            g = after_star;
            n = taken + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Vec<Namespace> {
        [("ai", false), ("media", false), ("media-old", true), ("security", false)]
            .map(|(name, terminating)| Namespace { name: name.into(), terminating })
            .to_vec()
    }

    fn listed(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_and_globs_are_expanded_once_each() {
        let meant = expand(&listed(&["media", "*i*", "ai"]), &cluster());
        assert_eq!(meant.present, ["media", "ai", "security"]);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let meant = expand(&listed(&["ai", "medja", "x-*"]), &cluster());
        assert_eq!(meant.present, ["ai"]);
        assert_eq!(meant.remarks, ["there is no namespace medja", "no namespace fits x-*"]);
    }

    #[test]
    fn a_namespace_being_deleted_is_left_out_and_said() {
        let meant = expand(&listed(&["media-old"]), &cluster());
        assert!(meant.present.is_empty());
        assert_eq!(meant.remarks, ["namespace media-old is being deleted itself: left out"]);
    }

    #[test]
    fn globs_fit_as_a_shell_would_have_it() {
        for (glob, name, yes) in [
            ("*", "ai", true),
            ("a?", "ai", true),
            ("a?", "a", false),
            ("*-old", "media-old", true),
            ("m*a", "media", true),
            ("m*a", "median", false),
            ("*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("media", "media", true),
        ] {
            assert_eq!(fits(glob, name), yes, "{glob} {name}");
        }
    }
}
