//! Compiling each kernels/*.cu to a fatbin, and listing the entry points found in them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;
use std::{fs, thread};

use crate::cache::{self, Cache};
use crate::nvcc::Nvcc;

/// A100, H100 and B200; the PTX serves every later GPU.
const ARCHS: &str = "80,90a,100a";

/// The `-gencode` arguments. The debug switch `EMO_CUDA_ARCHS` chooses fewer machine-code targets, for example `80`,
/// or none with `ptx`. PTX is always there.
fn targets() -> Result<Vec<String>, String> {
    let chosen = std::env::var("EMO_CUDA_ARCHS").unwrap_or_else(|_| ARCHS.to_string());
    let mut targets = vec!["arch=compute_80,code=compute_80".to_string()];
    for arch in chosen.split(',').map(str::trim).filter(|&arch| arch != "ptx" && !arch.is_empty()) {
        if !arch.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!(
                "EMO_CUDA_ARCHS must name targets such as `80,90a` or `ptx`, found `{arch}`"
            ));
        }
        // Later targets have PTX of their own; `80` shares the PTX above.
        targets.push(format!("arch=compute_{arch},code=sm_{arch}"));
    }
    Ok(targets)
}

/// The fatbins of all kernels in `folder`, by name. Only those are compiled whose sources and settings are new to this build
/// folder and to the cache.
pub fn compile(nvcc: &Nvcc, folder: &Path, out: &Path) -> Result<BTreeMap<String, PathBuf>, String> {
    let targets = targets()?;
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let sources = entries.flatten().map(|entry| entry.path());
    let sources: Vec<PathBuf> = sources.filter(|path| path.extension().is_some_and(|e| e == "cu")).collect();
    let cache = Cache::beside(out);
    let fatbins = Mutex::new(BTreeMap::new());
    let errors = Mutex::new(Vec::new());
    let queue = Mutex::new(sources.iter());
    let jobs = std::env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(2);
    thread::scope(|scope| {
        for _ in 0..jobs.min(sources.len()) {
            scope.spawn(|| {
                while let Some(source) = queue.lock().ok().and_then(|mut queue| queue.next()) {
                    let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    match one(nvcc, &cache, source, &name, out, &targets) {
                        Ok(fatbin) => drop(fatbins.lock().map(|mut all| all.insert(name, fatbin))),
                        Err(error) => drop(errors.lock().map(|mut all| all.push(error))),
                    }
                }
            });
        }
    });
    let mut errors = errors.into_inner().unwrap_or_default();
    errors.sort();
    match errors.is_empty() {
        true => Ok(fatbins.into_inner().unwrap_or_default()),
        false => Err(errors.join("\n")),
    }
}

fn one(
    nvcc: &Nvcc,
    cache: &Cache,
    source: &Path,
    name: &str,
    out: &Path,
    targets: &[String],
) -> Result<PathBuf, String> {
    let [fatbin, depends, stamp, started] =
        ["fatbin", "d", "stamp", "started"].map(|extension| out.join(format!("{name}.{extension}")));
    let settings = nvcc.settings(targets);
    if fatbin.exists() && is_current(&stamp, &depends, &settings) {
        return Ok(fatbin);
    }
    // Written before the compiler reads: a file that changes while it runs is newer than the stamp.
    let failed = |what: &Path, error: std::io::Error| format!("{}: {error}", what.display());
    fs::write(&started, &settings).map_err(|error| failed(&started, error))?;
    if !cache.get(name, &settings, &fatbin, &depends) {
        let mut command = nvcc.fatbin(source, &fatbin, &depends, targets);
        let output = command.output().map_err(|error| failed(source, error))?;
        if !output.status.success() {
            let text = [output.stdout, output.stderr].concat();
            return Err(format!("nvcc on kernels/{name}.cu: {}", String::from_utf8_lossy(&text).trim()));
        }
        cache.put(name, &settings, &fatbin, &depends, &started);
    }
    fs::rename(&started, &stamp).map_err(|error| failed(&stamp, error))?;
    Ok(fatbin)
}

/// Whether the stamp holds these settings and is newer than every file that the compiler read.
fn is_current(stamp: &Path, depends: &Path, settings: &str) -> bool {
    let changed =
        |path: &str| fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::now());
    let Ok(made) = fs::metadata(stamp).and_then(|data| data.modified()) else { return false };
    let Ok(depends) = fs::read_to_string(depends) else { return false };
    fs::read_to_string(stamp).is_ok_and(|stamp| stamp == settings)
        && depends.contains(':')
        && cache::files(&depends).all(|file| changed(&file) < made)
}

/// Writes `MODULES` (each fatbin with its entry points, in order) and a constant for each kernel: `RMS_NORM_FORWARD` for
/// the pair `emo_rms_norm_forward_f32` and `_bf16`, or for a kernel that is there once.
pub fn list(fatbins: &BTreeMap<String, PathBuf>, target: &Path) -> Result<(), String> {
    let (mut modules, mut kernels, mut count) =
        (String::new(), BTreeMap::<String, [Option<usize>; 2]>::new(), 0);
    for (name, path) in fatbins {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let entries = entries(&bytes);
        for entry in &entries {
            let base =
                entry.strip_prefix("emo_").ok_or(format!("{name}.cu: `{entry}` must start with emo_"))?;
            let (base, storages) = match base.rsplit_once('_') {
                Some((base, "f32")) => (base, 0..1),
                Some((base, "bf16")) => (base, 1..2),
                _ => (base, 0..2),
            };
            for storage in storages {
                let known = kernels.entry(base.to_uppercase()).or_default()[storage].replace(count);
                if known.is_some() {
                    return Err(format!("{name}.cu: `{entry}` is there twice"));
                }
            }
            count += 1;
        }
        let _ = writeln!(modules, "    (include_bytes!({path:?}), {name:?}, &{entries:?}),");
    }
    let mut text =
        format!("pub(in crate::cuda) const MODULES: &[(&[u8], &str, &[&str])] = &[\n{modules}];\n");
    for (name, [f32, bf16]) in kernels {
        let first = f32.or(bf16).unwrap_or_default();
        let [f32, bf16] = [f32, bf16].map(|index| index.unwrap_or(first));
        let _ = writeln!(
            text,
            "pub(in crate::cuda) const {name}: Kernel = Kernel {{ f32: {f32}, bf16: {bf16} }};"
        );
    }
    fs::write(target, text).map_err(|error| format!("{}: {error}", target.display()))
}

/// The names after `.entry` in the PTX that the fatbin holds as plain text.
fn entries(fatbin: &[u8]) -> Vec<String> {
    const MARK: &[u8] = b".entry ";
    let starts = fatbin.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let names = starts.map(|(at, _)| {
        let rest = fatbin[at + MARK.len()..].iter();
        rest.take_while(|&&c| c.is_ascii_alphanumeric() || c == b'_').map(|&c| char::from(c)).collect()
    });
    names.collect()
}
