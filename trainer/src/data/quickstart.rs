//! The quickstart's corpus: the sources of this project's own locked dependencies.
//!
//! Real text that is on every machine that has built the project, so the first run downloads nothing. The names and versions
//! come from the workspace's `Cargo.lock`, compiled into the binary, so an installed `trainer` reads the same packages; the
//! text comes from `registry/src/*/<name>-<version>` under `CARGO_HOME` (default: `.cargo` in the home folder), where cargo
//! extracts what it builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::corpus::{Candidate, Skipped};
use super::folder::{accept, walk};
use super::{Corpus, DataError, Limits};

const LOCK: &str = include_str!("../../../Cargo.lock");

/// The domains, in the order of their indices.
pub const DOMAINS: [&str; 6] = ["rust", "c", "markdown", "licences", "manifests", "tests"];

/// Locked packages that only some machines have, because only other platforms build them: leaving them out keeps the corpus
/// the same everywhere. A `*` stands for any ending.
const OTHER_PLATFORMS: [&str; 24] = [
    "anstyle-wincon",
    "block2",
    "bumpalo",
    "crunchy",
    "dispatch2",
    "encode_unicode",
    "futures-*",
    "hermit-abi",
    "js-sys",
    "linux-raw-sys",
    "objc2*",
    "once_cell_polyfill",
    "r-efi",
    "redox*",
    "rustversion",
    "slab",
    "wasi*",
    "wasm*",
    "web-*",
    "winapi*",
    "windows*",
    "wit-*",
    "core-foundation*",
    "android*",
];

/// The quickstart's corpus on this machine.
///
/// A build of the trainer alone leaves out the packages that only tests use, most of the C among them. With `fetch` those are
/// asked for first, by cargo, as building the tests would; where that fails (no network, an installed binary without its
/// source folder) the corpus is made of what is there and [`Corpus::missing`] names the rest.
///
/// # Errors
/// Those of [`Quickstart::of_this_machine`] and [`Quickstart::load`].
pub fn load(limits: Limits, fetch: bool) -> Result<Corpus, DataError> {
    let quickstart = Quickstart::of_this_machine(limits)?;
    if fetch && !quickstart.missing().is_empty() && fetch_locked() {
        return Quickstart::of_this_machine(limits)?.load();
    }
    quickstart.load()
}

/// Runs `cargo fetch --locked` for this machine's platform in the folder the trainer was built from; true when it succeeded.
#[must_use]
pub fn fetch_locked() -> bool {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let Some(platform) = host_platform().filter(|_| manifest.is_file()) else { return false };
    Command::new("cargo")
        .args(["fetch", "--locked", "--quiet", "--target", &platform, "--manifest-path"])
        .arg(manifest)
        // Without a network, give up soon.
        .env("CARGO_NET_RETRY", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A package of the lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its exact version.
    pub version: String,
}

/// Where to look, and how much to take.
#[derive(Debug, Clone)]
pub struct Quickstart {
    /// Folders that hold `<name>-<version>` subfolders; the first that has a package gives it.
    pub sources: Vec<PathBuf>,
    /// The packages.
    pub packages: Vec<Package>,
    /// Caps and the split.
    pub limits: Limits,
}

impl Quickstart {
    /// The packages locked by this project, in cargo's registry folder on this machine.
    ///
    /// # Errors
    /// [`DataError::NoCargoHome`] when that folder cannot be known.
    pub fn of_this_machine(limits: Limits) -> Result<Self, DataError> {
        let cargo_home = match std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty()) {
            Some(home) => PathBuf::from(home),
            None => std::env::home_dir().ok_or(DataError::NoCargoHome)?.join(".cargo"),
        };
        Ok(Self { sources: registry_folders(&cargo_home), packages: locked_packages(LOCK), limits })
    }

    /// Packages whose sources are in none of the folders.
    #[must_use]
    pub fn missing(&self) -> Vec<&Package> {
        self.packages.iter().filter(|package| self.folder_of(package).is_none()).collect()
    }

    /// Reads the corpus. Packages that are not there are listed in [`Corpus::missing`]; text that a program wrote is skipped.
    ///
    /// # Errors
    /// [`DataError::MissingSources`] when no package at all is there; [`DataError::Read`]; those of [`Corpus::assemble`].
    pub fn load(&self) -> Result<Corpus, DataError> {
        let mut skipped = Skipped::default();
        let mut candidates = Vec::new();
        let mut missing = Vec::new();
        for package in &self.packages {
            let Some(folder) = self.folder_of(package) else {
                missing.push(format!("{}-{}", package.name, package.version));
                continue;
            };
            for file in walk(&folder)? {
                let Some(domain) = domain_of(&file) else {
                    skipped.other += 1;
                    continue;
                };
                let Some(text) = accept(&folder.join(&file), &self.limits, &mut skipped)? else {
                    continue;
                };
                if is_code(domain) && is_generated(&text) {
                    skipped.generated += 1;
                    continue;
                }
                // The version is no part of the key: two versions of one file are near duplicates and stay together.
                let split_key = format!("{}/{file}", package.name);
                let path = format!("{}-{}/{file}", package.name, package.version);
                candidates.push(Candidate { domain: domain as u32, path, split_key, side: None, text });
            }
        }
        if missing.len() == self.packages.len() {
            return Err(DataError::MissingSources { searched: self.sources.clone() });
        }
        let domains = DOMAINS.map(str::to_owned);
        let place = "the sources of the locked dependencies";
        let mut corpus = Corpus::assemble(&domains, candidates, &self.limits, skipped, place)?;
        corpus.missing = missing;
        Ok(corpus)
    }

    fn folder_of(&self, package: &Package) -> Option<PathBuf> {
        let name = format!("{}-{}", package.name, package.version);
        self.sources.iter().map(|source| source.join(&name)).find(|folder| folder.is_dir())
    }
}

/// The domain of a file, by its path relative to the package; the first rule that holds decides:
///
/// 1. `licences`: the file's name begins with LICENSE, LICENCE, UNLICENSE, COPYING, COPYRIGHT or NOTICE in any case, and it is
///    not source code;
/// 2. `manifests`: the file is called `Cargo.toml` or `Cargo.lock` (`Cargo.toml.orig` repeats it and belongs nowhere);
/// 3. `tests`: Rust under a folder called `tests`, `test` or `benches`;
/// 4. `markdown`: `*.md`;
/// 5. `c`: `*.c` and `*.h`;
/// 6. `rust`: `*.rs`.
///
/// Returns an index into [`DOMAINS`].
#[must_use]
pub fn domain_of(file: &str) -> Option<usize> {
    let (folders, name) = file.rsplit_once('/').unwrap_or(("", file));
    let upper = name.to_ascii_uppercase();
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_source = matches!(extension, "rs" | "c" | "h" | "toml" | "json" | "py" | "sh");
    const LICENCE_NAMES: [&str; 6] = ["LICENSE", "LICENCE", "UNLICENSE", "COPYING", "COPYRIGHT", "NOTICE"];
    let domain = if !is_source && LICENCE_NAMES.iter().any(|start| upper.starts_with(start)) {
        "licences"
    } else if name == "Cargo.toml" || name == "Cargo.lock" {
        "manifests"
    } else if extension == "rs" && folders.split('/').any(|part| matches!(part, "tests" | "test" | "benches"))
    {
        "tests"
    } else {
        match extension {
            "md" => "markdown",
            "c" | "h" => "c",
            "rs" => "rust",
            _ => return None,
        }
    };
    DOMAINS.iter().position(|&name| name == domain)
}

fn is_code(domain: usize) -> bool {
    matches!(DOMAINS[domain], "rust" | "c" | "tests")
}

/// Whether the first lines say that a program wrote the file.
fn is_generated(text: &str) -> bool {
    let head = text.lines().take(12).collect::<Vec<_>>().join("\n").to_ascii_lowercase();
    ["@generated", "automatically generated", "auto-generated", "autogenerated", "do not edit"]
        .iter()
        .any(|mark| head.contains(mark))
}

/// `registry/src/*` under cargo's folder, sorted by name; the bare `registry/src` when there is none, for the error's sake.
fn registry_folders(cargo_home: &Path) -> Vec<PathBuf> {
    let root = cargo_home.join("registry").join("src");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
        .unwrap_or_default();
    folders.sort();
    if folders.is_empty() {
        folders.push(root);
    }
    folders
}

/// The registry packages of a `Cargo.lock` that every platform builds, in its order.
#[must_use]
pub fn locked_packages(lock: &str) -> Vec<Package> {
    let other_platform = |name: &str| {
        OTHER_PLATFORMS.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == *pattern,
        })
    };
    // Cargo writes one `key = "value"` a line; a package with a source is not a member of the workspace.
    lock.split("[[package]]")
        .skip(1)
        .filter_map(|block| {
            let field = |key: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(key))?;
                Some(line.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
            };
            field("source").filter(|source| source.starts_with("registry+"))?;
            Some(Package { name: field("name")?, version: field("version")? })
        })
        .filter(|package| !other_platform(&package.name))
        .collect()
}

/// The platform that cargo builds for by default, from `cargo -vV`.
fn host_platform() -> Option<String> {
    let output = Command::new("cargo").arg("-vV").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}
