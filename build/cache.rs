//! Compiled kernels by content. Cargo gives every combination of packages, features and profile a build folder of its own;
//! this folder is one for all of them, so that a kernel is compiled once for each content and setting.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;
use std::{fs, io};

/// The cache in one folder. An entry is a fatbin under the hash of the settings and of every file that the compiler read;
/// which files those are stands in a list of dependencies, by name and settings.
pub struct Cache {
    folder: PathBuf,
    /// Hashes of files: all kernels read the same headers.
    files: Mutex<BTreeMap<PathBuf, u64>>,
}

impl Cache {
    /// For the build folder `out`, which cargo makes as `TARGET/PROFILE/build/PACKAGE/out`: beside the profiles. A build
    /// folder that lies elsewhere keeps a cache of its own.
    pub fn beside(out: &Path) -> Self {
        let above = |levels: usize| out.ancestors().nth(levels);
        let cargos = above(2).is_some_and(|build| build.ends_with("build"));
        Self::at(above(4).filter(|_| cargos).unwrap_or(out).join("kernels"))
    }

    fn at(folder: PathBuf) -> Self {
        Self { folder, files: Mutex::default() }
    }

    /// Puts the fatbin and the list of dependencies of `name` into their places, where the cache has them for these settings
    /// and for the files as they are; else says no.
    pub fn get(&self, name: &str, settings: &str, fatbin: &Path, depends: &Path) -> bool {
        let list = self.list(name, settings);
        let known = fs::read_to_string(&list).ok().and_then(|text| self.key(settings, &text));
        known.is_some_and(|key| {
            fs::copy(self.entry(name, key), fatbin).is_ok() && fs::copy(&list, depends).is_ok()
        })
    }

    /// Keeps what was compiled after `started` was written; does nothing where a file has changed since, because the compiler
    /// may have read either state.
    pub fn put(&self, name: &str, settings: &str, fatbin: &Path, depends: &Path, started: &Path) {
        let Some(since) = modified(started) else { return };
        let Ok(text) = fs::read_to_string(depends) else { return };
        let unchanged = |file: &str| modified(Path::new(file)).is_some_and(|changed| changed < since);
        if !files(&text).all(|file| unchanged(&file)) {
            return;
        }
        let Some(key) = self.key(settings, &text) else { return };
        // A cache that cannot be written is none; the build goes on.
        let _ = fs::create_dir_all(&self.folder)
            .and_then(|()| replace(fatbin, &self.entry(name, key)))
            .and_then(|()| replace(depends, &self.list(name, settings)));
    }

    fn list(&self, name: &str, settings: &str) -> PathBuf {
        self.folder.join(format!("{name}-{:016x}.d", hash(settings)))
    }

    fn entry(&self, name: &str, key: u128) -> PathBuf {
        self.folder.join(format!("{name}-{key:032x}.fatbin"))
    }

    /// The hash of the settings and of every listed file's path and content; none where one cannot be read.
    fn key(&self, settings: &str, depends: &str) -> Option<u128> {
        let mut all = vec![hash(settings)];
        for file in files(depends) {
            all.extend([hash(&file), self.content(Path::new(&file))?]);
        }
        Some(u128::from(hash(&all)) << 64 | u128::from(hash(&(1u8, all))))
    }

    fn content(&self, file: &Path) -> Option<u64> {
        if let Some(&known) = self.files.lock().ok()?.get(file) {
            return Some(known);
        }
        let found = hash(&fs::read(file).ok()?);
        self.files.lock().ok()?.insert(file.to_path_buf(), found);
        Some(found)
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|data| data.modified()).ok()
}

/// The same in every process; another release of Rust may give others, and then compiles anew.
fn hash(what: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The files after the colon of a compiler's list of dependencies.
pub fn files(depends: &str) -> impl Iterator<Item = String> {
    let (_, files) = depends.split_once(':').unwrap_or_default();
    files.replace("\\\n", " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// A whole copy or none, whoever reads or writes at the same time.
fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let part = to.with_extension(format!("{}.part", std::process::id()));
    fs::copy(from, &part)?;
    fs::rename(&part, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("emo-kernel-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(folder.join("target/debug/build/emo-1/out")).unwrap();
            Self(folder)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            fs::write(self.0.join(name), text).unwrap();
            self.0.join(name)
        }

        /// Compiles `k.cu`, which includes `k.h`, into the cache.
        fn compile(&self, settings: &str, result: &str) {
            let depends =
                format!("k.o: {} \\\n {}\n", self.0.join("k.cu").display(), self.0.join("k.h").display());
            let (fatbin, depends) = (self.write("k.fatbin", result), self.write("k.d", &depends));
            std::thread::sleep(std::time::Duration::from_millis(20));
            self.cache().put("k", settings, &fatbin, &depends, &self.write("k.started", ""));
        }

        /// What a build with these settings gets.
        fn get(&self, settings: &str) -> Option<String> {
            let (fatbin, depends) = (self.0.join("got.fatbin"), self.0.join("got.d"));
            let found = self.cache().get("k", settings, &fatbin, &depends);
            found.then(|| fs::read_to_string(fatbin).unwrap())
        }

        /// As another run of the build script opens it.
        fn cache(&self) -> Cache {
            Cache::beside(&self.0.join("target/debug/build/emo-1/out"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_changed_source_header_or_setting_is_another_entry_and_the_old_one_stays() {
        let place = Place::new("changes");
        place.write("k.cu", "source");
        place.write("k.h", "header");
        assert_eq!(place.get("80"), None);
        place.compile("80", "first");
        assert_eq!(place.get("80").as_deref(), Some("first"));
        assert_eq!(place.get("90"), None, "other settings");
        place.compile("90", "other target");
        for (file, text) in [("k.h", "header 2"), ("k.cu", "source 2")] {
            let before = fs::read_to_string(place.0.join(file)).unwrap();
            place.write(file, text);
            assert_eq!(place.get("80"), None, "{file} has changed");
            place.compile("80", text);
            assert_eq!(place.get("80").as_deref(), Some(text));
            place.write(file, &before);
            assert_eq!(place.get("80").as_deref(), Some("first"), "{file} is as it was");
        }
        assert_eq!(place.get("90").as_deref(), Some("other target"));
        fs::remove_file(place.0.join("k.h")).unwrap();
        assert_eq!(place.get("80"), None, "a header is gone");
    }

    #[test]
    fn what_changed_while_it_was_compiled_is_not_kept() {
        let place = Place::new("races");
        let (source, fatbin) = (place.write("k.cu", "source"), place.write("k.fatbin", "either"));
        let depends = place.write("k.d", &format!("k.o: {}", source.display()));
        let started = place.write("k.started", "");
        std::thread::sleep(std::time::Duration::from_millis(20));
        place.write("k.cu", "changed");
        place.cache().put("k", "80", &fatbin, &depends, &started);
        assert_eq!(place.get("80"), None);
    }

    #[test]
    fn the_cache_lies_beside_the_profiles_where_cargo_lays_out_the_folders() {
        let at = |out: &str| Cache::beside(Path::new(out)).folder;
        assert_eq!(at("/t/debug/build/emo-1/out"), Path::new("/t/kernels"));
        assert_eq!(at("/t/release/build/emo-2/out"), Path::new("/t/kernels"));
        assert_eq!(at("/elsewhere/out"), Path::new("/elsewhere/out/kernels"));
    }
}
