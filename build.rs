//! With feature `cuda`: kernels become fatbins, their parameter headers become Rust. Without it: nothing.

#[cfg(feature = "cuda")]
#[path = "build/bindings.rs"]
mod bindings;
#[cfg(feature = "cuda")]
#[path = "build/cache.rs"]
mod cache;
#[cfg(feature = "cuda")]
#[path = "build/kernels.rs"]
mod kernels;
#[cfg(feature = "cuda")]
#[path = "build/nvcc.rs"]
mod nvcc;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    if let Err(message) = cuda() {
        // Cargo prints it and stops the build, without a backtrace.
        println!("cargo::error={}", message.replace('\n', " | "));
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<(), String> {
    use std::path::PathBuf;

    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set"));
    let (root, out) = (folder("CARGO_MANIFEST_DIR")?, folder("OUT_DIR")?);
    let watched = ["build", "kernels", "target/toolchain/complete"].map(|path| root.join(path));
    // Cargo takes a path that is not there for one that has changed.
    watched
        .iter()
        .filter(|path| path.exists())
        .for_each(|path| println!("cargo::rerun-if-changed={}", path.display()));
    for name in ["NVCC", "CUDA_HOME", "PATH", "LIBCLANG_PATH", "EMO_CUDA_ARCHS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let toolchain = root.join("target/toolchain");
    bindings::generate(&root.join("kernels/include/emo.h"), &toolchain, &out.join("params.rs"))?;
    let nvcc = nvcc::Nvcc::find(&toolchain)?;
    let fatbins = kernels::compile(&nvcc, &root.join("kernels"), &out)?;
    kernels::list(&fatbins, &out.join("kernels.rs"))
}
