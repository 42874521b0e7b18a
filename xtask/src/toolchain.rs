//! `cargo xtask toolchain`: the CUDA compiler, the disassemblers and libclang out of published wheels, for machines that
//! have none. build.rs looks into the folder after `NVCC`, `CUDA_HOME` and `PATH`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::step;

/// Names and versions. Each is pinned: left to itself, pip pairs nvcc with a younger nvvm, whose PTX the older ptxas refuses.
const WHEELS: [(&str, &str); 8] = [
    ("nvidia-cuda-nvcc", "13.0.88"),
    ("nvidia-nvvm", "13.0.88"),
    ("nvidia-cuda-crt", "13.0.88"),
    ("nvidia-cuda-runtime", "13.0.96"),
    // <nv/target>, which cuda_bf16.h includes.
    ("nvidia-cuda-cccl", "13.0.85"),
    // Not published for 13.0; these read its files.
    ("nvidia-cuda-cuobjdump", "13.5.37"),
    ("nvidia-cuda-nvdisasm", "13.5.37"),
    ("libclang", "18.1.1"),
];

/// Where it lies.
fn folder() -> PathBuf {
    step::root().join("target/toolchain")
}

/// A CUDA tool: of the fetched toolchain if there is one, else of `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let fetched = folder().join("nvidia/cu13/bin").join(name);
    if fetched.exists() { fetched } else { PathBuf::from(name) }
}

/// Fetches what is missing; does nothing where the stamp says that all is there.
pub fn run() -> Result<(), String> {
    let (folder, list) = (folder(), listed());
    if fs::read_to_string(folder.join("complete")).is_ok_and(|stamp| stamp == list) {
        println!("{} is complete", folder.display());
        return Ok(());
    }
    // Filled beside its place and moved when whole: an interrupted run leaves nothing half there.
    let part = folder.with_extension("part");
    for old in [&part, &folder] {
        remove(old)?;
    }
    println!("fetching nvcc, the disassemblers and libclang with pip: some 150 MB, 400 MB unpacked");
    step::run("toolchain", &mut pip(&part)).map_err(|error| {
        format!("{error}\nthe wheels come through `python3 -m pip` (pip 20.3 or later), for Linux and Windows on x86-64 or Linux on ARM")
    })?;
    check(&part)?;
    fs::write(part.join("complete"), list).map_err(|error| format!("{}: {error}", part.display()))?;
    fs::rename(&part, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    println!("wrote {}", folder.display());
    Ok(())
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// What the stamp holds.
fn listed() -> String {
    WHEELS.map(|(name, version)| format!("{name}=={version}\n")).concat()
}

fn pip(target: &Path) -> Command {
    let mut command = Command::new("python3");
    command.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]);
    command.arg("--target").arg(target).args(listed().lines());
    command
}

/// The compiler runs and the library is where build.rs looks for it.
fn check(folder: &Path) -> Result<(), String> {
    for name in ["nvcc", "cuobjdump", "nvdisasm"] {
        let tool = folder.join("nvidia/cu13/bin").join(name);
        let output = Command::new(&tool).arg("--version").output();
        if !output.as_ref().is_ok_and(|output| output.status.success()) {
            return Err(format!("the wheels brought no working {name}: {} does not run", tool.display()));
        }
    }
    let clang = folder.join("clang/native");
    let found = fs::read_dir(&clang).is_ok_and(|mut entries| entries.next().is_some());
    if found { Ok(()) } else { Err(format!("the wheels brought no libclang: {} is empty", clang.display())) }
}
