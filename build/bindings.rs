//! The launch-parameter structs and tile constants of kernels/include, as Rust.

use std::path::Path;

const NO_LIBCLANG: &str = "feature `cuda` needs libclang to read kernels/include: run `cargo xtask toolchain`, or set \
                           LIBCLANG_PATH to the folder that holds libclang.so";

/// Writes the bindings of `header` to `target`.
pub fn generate(header: &Path, toolchain: &Path, target: &Path) -> Result<(), String> {
    if clang_sys::load().is_err() {
        // SAFETY: a build script has one thread as long as it starts none, and none is started before this line.
        unsafe { std::env::set_var("LIBCLANG_PATH", toolchain.join("clang/native")) };
        clang_sys::load().map_err(|_| NO_LIBCLANG.to_string())?;
    }
    let bindings = bindgen::Builder::default()
        .header(header.display().to_string())
        .allowlist_item("(Emo|EMO_).*")
        .use_core()
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .translate_enum_integer_types(true)
        .generate_comments(false)
        .formatter(bindgen::Formatter::None)
        .generate()
        .map_err(|error| format!("kernels/include: {error}"))?;
    bindings.write_to_file(target).map_err(|error| format!("{}: {error}", target.display()))
}
