//! What is in a fatbin: entry points, registers, shared memory, spills and instructions of each target.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Counts;

/// An entry point.
pub struct Kernel {
    /// `emo_<op>_<direction>_<storage>`
    pub name: String,
    /// Threads of a block, as `__launch_bounds__` says.
    pub threads: u32,
    /// Shared memory that a launch asks for, in bytes.
    pub dynamic_shared: u32,
    /// By target, for example `sm_80`.
    pub code: BTreeMap<String, Code>,
}

/// A kernel's code for one target.
#[derive(Debug, Default, PartialEq)]
pub struct Code {
    pub registers: u32,
    /// Shared memory that the code itself declares, in bytes. From sm_90 on, cuobjdump counts what the system takes of each
    /// block with it, which is left out here.
    pub shared: u32,
    /// Loads and stores of local memory.
    pub spills: usize,
    counts: Counts,
}

impl Code {
    /// Instructions with this opcode.
    pub fn count(&self, opcode: &str) -> usize {
        self.counts.get(opcode).copied().unwrap_or(0)
    }
}

/// Whether a kernel is one of those whose work is products of matrices.
pub fn products(name: &str) -> bool {
    let tiled = ["_large_", "_small_", "_scalar_"].iter().any(|variant| name.contains(variant));
    tiled || (name.starts_with("emo_attention_") && !name.contains("_delta_"))
}

/// The entry points of a fatbin.
pub fn read(
    fatbin: &Path,
    cuobjdump: &Path,
    constants: &BTreeMap<String, u32>,
) -> Result<Vec<Kernel>, String> {
    let bytes = fs::read(fatbin).map_err(|error| format!("{}: {error}", fatbin.display()))?;
    let usage = usage(&dump(cuobjdump, "-res-usage", fatbin)?);
    let counts = counts(&dump(cuobjdump, "-sass", fatbin)?);
    let mut kernels = Vec::new();
    for (name, threads) in entries(&String::from_utf8_lossy(&bytes)) {
        let dynamic_shared = dynamic_shared(&name, constants)?;
        let mut code = BTreeMap::new();
        for ((target, _), &(registers, shared)) in usage.iter().filter(|((_, kernel), _)| *kernel == name) {
            let counts = counts.get(&(target.clone(), name.clone())).cloned().unwrap_or_default();
            let spills = ["LDL", "STL"].iter().filter_map(|opcode| counts.get(*opcode)).sum();
            code.insert(target.clone(), Code { registers, shared, spills, counts });
        }
        kernels.push(Kernel { name, threads, dynamic_shared, code });
    }
    Ok(kernels)
}

fn dump(tool: &Path, what: &str, fatbin: &Path) -> Result<String, String> {
    let folder = tool.parent().unwrap_or(Path::new(""));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // cuobjdump starts the nvdisasm beside it.
    let path =
        std::env::join_paths(std::iter::once(folder.to_path_buf()).chain(std::env::split_paths(&path)));
    let mut command = Command::new(tool);
    command.arg(what).arg(fatbin).env("PATH", path.map_err(|error| error.to_string())?);
    let output = command.output().map_err(|error| {
        format!("cannot start {}: {error}; `cargo xtask toolchain` fetches it", tool.display())
    })?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{what} of {}: {}", fatbin.display(), String::from_utf8_lossy(&output.stderr))),
    }
}

/// Names and block sizes out of the PTX, which the fatbin holds as text.
fn entries(text: &str) -> Vec<(String, u32)> {
    let parts = text.split(".entry ").skip(1);
    let entry = |part: &str| {
        let name = part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
        let threads = part.split(".maxntid ").nth(1)?.split(',').next()?.trim().parse().ok()?;
        Some((name.to_owned(), threads))
    };
    parts.filter_map(entry).collect()
}

/// Registers and shared memory by target and kernel, out of `cuobjdump -res-usage`.
fn usage(text: &str) -> BTreeMap<(String, String), (u32, u32)> {
    let (mut target, mut kernel) = (String::new(), String::new());
    let mut found = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            target = name.to_owned();
        } else if let Some(name) = line.strip_prefix("Function ") {
            kernel = name.trim_end_matches(':').to_owned();
        } else if line.starts_with("REG:") {
            let value = |key: &str| -> u32 {
                let mut words = line.split_whitespace().filter_map(|word| word.strip_prefix(key));
                words.find_map(|value| value.parse::<u32>().ok()).unwrap_or(0)
            };
            let system = if target == "sm_80" { 0 } else { 1024 };
            let shared = u32::saturating_sub(value("SHARED:"), system);
            found.insert((target.clone(), kernel.clone()), (value("REG:"), shared));
        }
    }
    found
}

/// Opcodes by target and kernel, out of `cuobjdump -sass`.
fn counts(text: &str) -> BTreeMap<(String, String), Counts> {
    let (mut target, mut kernel) = (String::new(), String::new());
    let mut found: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("arch = ") {
            target = name.to_owned();
        } else if let Some(name) = line.strip_prefix("Function : ") {
            kernel = name.to_owned();
        } else if let Some((_, rest)) = line.split_once("*/").filter(|_| line.starts_with("/*")) {
            let mut words = rest.split_whitespace().skip_while(|word| word.starts_with('@'));
            if let Some(opcode) = words.next().and_then(|word| word.split(['.', ';']).next())
                && opcode.starts_with(|c: char| c.is_ascii_uppercase())
            {
                let counts = found.entry((target.clone(), kernel.clone())).or_default();
                *counts.entry(opcode.to_owned()).or_default() += 1;
            }
        }
    }
    found
}

/// The numbers that host and device share, out of the bindings of kernels/include.
pub fn constants(bindings: &Path) -> Result<BTreeMap<String, u32>, String> {
    let text = fs::read_to_string(bindings).map_err(|error| format!("{}: {error}", bindings.display()))?;
    Ok(text.split("pub const ").skip(1).filter_map(constant).collect())
}

/// `NAME : Type = 7 ;`
fn constant(text: &str) -> Option<(String, u32)> {
    let (declared, value) = text.split_once(';')?.0.split_once('=')?;
    Some((declared.split(':').next()?.trim().to_owned(), value.trim().parse().ok()?))
}

/// What the host asks for at launch: see `choose` in src/cuda/attention.rs and `launch_tiles` in src/cuda/grouped_gemm.rs.
fn dynamic_shared(name: &str, constants: &BTreeMap<String, u32>) -> Result<u32, String> {
    let constant = |name: &str| {
        constants.get(name).copied().ok_or(format!("kernels/include has no {name}, which the gates need"))
    };
    if !products(name) {
        return Ok(0);
    }
    if name.starts_with("emo_attention_") {
        return Ok((constant(&name.to_uppercase())? >> 16) * 16);
    }
    let (storage, element) = if name.ends_with("_bf16") { ("BF16", 2) } else { ("F32", 4) };
    let rows = constant(if name.contains("_large_") { "EMO_GEMM_LARGE_M" } else { "EMO_GEMM_SMALL_M" })?;
    let columns = constant(&format!("EMO_GEMM_N_{storage}"))?;
    let stages = constant(&format!("EMO_GEMM_STAGES_{storage}"))?;
    Ok(stages * (rows + columns) * constant("EMO_GEMM_DEPTH")? * element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_by_target_and_kernel() {
        let text = "arch = sm_80\nResource usage:\n Function emo_a_f32:\n  REG:42 STACK:0 SHARED:1024 LOCAL:0\n\
                    arch = sm_90a\n Function emo_a_f32:\n  REG:40 STACK:0 SHARED:2048 LOCAL:0\n";
        let key = |target: &str| (target.to_owned(), "emo_a_f32".to_owned());
        assert_eq!(usage(text), BTreeMap::from([(key("sm_80"), (42, 1024)), (key("sm_90a"), (40, 1024))]));
    }

    #[test]
    fn opcodes_are_counted_without_predicates_and_suffixes() {
        let text = "arch = sm_80\nFunction : emo_a_f32\n/*0000*/ MOV R1, c[0x0][0x28] ; /* 0x00000a0000017a02 */\n\
                    /* 0x000fe40000000f00 */\n/*0010*/ @!P0 LDGSTS.E.BYPASS.128 [R7], [R8.64] ;\n/*0020*/ EXIT ;\n";
        let found = counts(text);
        let found = &found[&("sm_80".to_owned(), "emo_a_f32".to_owned())];
        assert_eq!(
            (found.get("LDGSTS"), found.get("MOV"), found.get("EXIT")),
            (Some(&1), Some(&1), Some(&1))
        );
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn entries_and_constants_are_read() {
        let ptx = "x.visible .entry emo_a_f32(\n.param .align 8 .b8 p[8]\n)\n.maxntid 256, 1, 1\n{ ret; }";
        assert_eq!(entries(ptx), [("emo_a_f32".to_owned(), 256)]);
        assert_eq!(constant("EMO_A : EmoTile = 7 ; pub"), Some(("EMO_A".to_owned(), 7)));
        assert_eq!(constant("fn main () { }"), None);
    }

    #[test]
    fn products_ask_for_their_pipeline() {
        let constants = [("EMO_GEMM_LARGE_M", 128), ("EMO_GEMM_N_BF16", 128), ("EMO_GEMM_STAGES_BF16", 4)];
        let more = [("EMO_GEMM_DEPTH", 32), ("EMO_ATTENTION_DQ_32_F32", 5 << 16 | 4 << 8 | 64)];
        let constants =
            constants.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(dynamic_shared("emo_experts_in_large_bf16", &constants), Ok(65536));
        assert_eq!(dynamic_shared("emo_attention_dq_32_f32", &constants), Ok(80));
        assert_eq!(dynamic_shared("emo_rope_f32", &constants), Ok(0));
        assert!(dynamic_shared("emo_experts_in_small_f32", &constants).is_err());
    }
}
