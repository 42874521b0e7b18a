//! Finding nvcc and the C++ compiler it works with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The first release that knows sm_100a.
const OLDEST: (u32, u32) = (12, 8);
const OPTIONS: [&str; 4] = ["-fatbin", "--no-compress", "-O3", "-std=c++17"];

/// A usable nvcc.
pub struct Nvcc {
    path: PathBuf,
    host: PathBuf,
    /// What it says of itself and, where it was fetched, the list of what came with it.
    version: String,
}

impl Nvcc {
    /// `NVCC`, then `CUDA_HOME`, then `PATH`, then what `cargo xtask toolchain` has fetched.
    pub fn find(toolchain: &Path) -> Result<Self, String> {
        let home = std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin/nvcc"));
        let on_path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = std::env::var_os("NVCC").map(PathBuf::from).into_iter();
        let candidates =
            candidates.chain(home).chain(std::env::split_paths(&on_path).map(|p| p.join("nvcc")));
        let fetched = toolchain.join("nvidia/cu13/bin/nvcc");
        let mut old = None;
        for path in candidates.chain([fetched.clone()]) {
            let mut version = version(&path).unwrap_or_default();
            match release(&version) {
                Some(release) if release >= OLDEST => {
                    if path == fetched {
                        version += &std::fs::read_to_string(toolchain.join("complete")).unwrap_or_default();
                    }
                    let host = cc::Build::new().cpp(true).try_get_compiler();
                    let host =
                        host.map_err(|error| format!("feature `cuda` needs a C++ compiler: {error}"))?;
                    return Ok(Self { path, host: host.path().to_path_buf(), version });
                }
                Some(release) => old = old.or(Some((path, release))),
                None => {}
            }
        }
        let (major, minor) = OLDEST;
        let found = match old {
            Some((path, (major, minor))) => format!("{} is {major}.{minor}", path.display()),
            None => "there is none in NVCC, CUDA_HOME or PATH".to_string(),
        };
        Err(format!(
            "feature `cuda` needs nvcc {major}.{minor} or later and {found}: run `cargo xtask toolchain`"
        ))
    }

    /// The command that compiles `source` to `fatbin` for `targets`, and writes down in `depends` which files it read.
    pub fn fatbin(&self, source: &Path, fatbin: &Path, depends: &Path, targets: &[String]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("-ccbin").arg(&self.host).args(OPTIONS);
        for target in targets {
            command.arg("-gencode").arg(target);
        }
        command.arg("-MD").arg("-MF").arg(depends).arg("-o").arg(fatbin).arg(source);
        command
    }

    /// What of the tools and the options decides the output of every kernel, as text.
    pub fn settings(&self, targets: &[String]) -> String {
        format!("{:?} {:?} {:?} {OPTIONS:?} {targets:?}", self.path, self.version, self.host)
    }
}

/// What `nvcc --version` says.
fn version(nvcc: &Path) -> Option<String> {
    let output = Command::new(nvcc).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `(13, 0)` where the text says `release 13.0`.
fn release(version: &str) -> Option<(u32, u32)> {
    let (_, rest) = version.split_once("release ")?;
    let (major, minor) = rest.split(',').next()?.split_once('.')?;
    Some((major.trim().parse().ok()?, minor.trim().parse().ok()?))
}
