//! Finding nvcc and the C++ compiler it works with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first release that knows sm_100a.
const OLDEST: (u32, u32) = (12, 8);

/// A usable nvcc.
pub struct Nvcc {
    path: PathBuf,
    host: PathBuf,
    release: (u32, u32),
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
        for path in candidates.chain([fetched]) {
            match release(&path) {
                Some(release) if release >= OLDEST => {
                    let host = cc::Build::new().cpp(true).try_get_compiler();
                    let host =
                        host.map_err(|error| format!("feature `cuda` needs a C++ compiler: {error}"))?;
                    return Ok(Self { path, host: host.path().to_path_buf(), release });
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
        command.arg("-ccbin").arg(&self.host).args(["-fatbin", "--no-compress", "-O3", "-std=c++17"]);
        for target in targets {
            command.arg("-gencode").arg(target);
        }
        command.arg("-MD").arg("-MF").arg(depends).arg("-o").arg(fatbin).arg(source);
        command
    }

    /// What of the tools and the settings decides the output, as text.
    pub fn fingerprint(&self, command: &Command) -> String {
        let arguments: Vec<OsString> = command.get_args().map(OsString::from).collect();
        format!("{:?} {:?} {arguments:?}", self.path, self.release)
    }
}

/// `(13, 0)` where `nvcc --version` says `release 13.0`.
fn release(nvcc: &Path) -> Option<(u32, u32)> {
    let output = Command::new(nvcc).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rest) = text.split_once("release ")?;
    let (major, minor) = rest.split(',').next()?.split_once('.')?;
    Some((major.trim().parse().ok()?, minor.trim().parse().ok()?))
}
