//! The files of a run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::lock;

/// `runs/<name>-<seed>/` and what lies in it.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder of a run: the one asked for, or the default.
    #[must_use]
    pub fn of(config: &Config, out: Option<&Path>) -> Self {
        let named = || Path::new("runs").join(format!("{}-{}", config.run.name, config.run.seed));
        Self { root: out.map_or_else(named, Path::to_path_buf) }
    }

    /// The folder of a run that is there already.
    #[must_use]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Checkpoints, one folder each.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `routing.json`: domain x layer x expert, for the report.
    #[must_use]
    pub fn routing(&self) -> PathBuf {
        self.root.join("routing.json")
    }

    /// `run.json`: title and settings, for the report.
    #[must_use]
    pub fn info(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// `tensorboard/`: event files.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// Holds the folder for this process alone; the lock goes with the process, however it ends.
    ///
    /// # Errors
    /// [`Error::Usage`] while another process trains into it.
    pub fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root).map_err(Error::io("create the folder", &self.root))?;
        match lock::exclusive(&self.root) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(Error::Usage(format!(
                "another process is training into {}; wait for it, or choose another folder with --out",
                self.root.display()
            ))),
            Err(error) => Err(Error::io("lock", &self.root)(error)),
        }
    }

    fn ours(&self) -> [PathBuf; 6] {
        [
            self.checkpoints(),
            self.metrics(),
            self.routing(),
            self.info(),
            self.events(),
            self.root.join("report.html"),
        ]
    }

    /// Says no to a folder that another run is in, unless `force`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a folder in use.
    pub fn refuse_if_used(&self, force: bool) -> Result<()> {
        if force || !self.ours().iter().any(|path| path.exists()) {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "{} already holds a run. Continue it with --resume, choose another folder with --out, \
             or start over with --force, which deletes it",
            self.root.display()
        )))
    }

    /// Makes the folder for a new run, without anything of an earlier one.
    ///
    /// # Errors
    /// [`Error::Usage`] for a folder in use unless `force`, [`Error::Io`] if it cannot be made or emptied.
    pub fn begin(&self, force: bool) -> Result<()> {
        self.refuse_if_used(force)?;
        for path in self.ours().iter().filter(|path| path.exists()) {
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
                .map_err(Error::io("delete", path))?;
        }
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(Error::io("create the folder", &checkpoints))
    }
}
