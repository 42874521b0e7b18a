//! Reading reference vectors and comparing with them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use trainer::checkpoint::safetensors::Reader;

/// A check that failed, in words.
pub type Outcome<T> = Result<T, String>;

/// Turns any error into words.
pub fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The folder of the vectors: `EMO_VECTORS`, or the copy in the repository.
pub fn folder() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors");
    std::env::var_os("EMO_VECTORS").map_or_else(|| PathBuf::from(default), PathBuf::from)
}

/// `ref.safetensors` of a case; remembers which tensors were asked for.
pub struct Reference {
    reader: Reader,
    used: BTreeSet<String>,
}

impl Reference {
    pub fn open(case: &Path) -> Outcome<Self> {
        let reader = Reader::open(&case.join("ref.safetensors")).map_err(words)?;
        Ok(Self { reader, used: BTreeSet::new() })
    }

    pub fn has(&self, name: &str) -> bool {
        self.reader.tensors().contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Outcome<Vec<usize>> {
        let info = self.reader.tensors().get(name).ok_or_else(|| format!("no tensor {name}"))?;
        Ok(info.shape.clone())
    }

    pub fn floats(&mut self, name: &str) -> Outcome<Vec<f64>> {
        let shape = self.shape(name)?;
        self.used.insert(name.to_owned());
        self.reader.floats(name, &shape).map_err(words)
    }

    pub fn integers(&mut self, name: &str) -> Outcome<Vec<i64>> {
        if self.reader.tensors().get(name).is_none_or(|info| info.dtype != safetensors::Dtype::I64) {
            return Err(format!("{name} must be I64"));
        }
        self.used.insert(name.to_owned());
        let bytes = self.reader.bytes(name).map_err(words)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
    }

    /// An error that names the tensors nothing was compared with.
    pub fn all_used(&self) -> Outcome<()> {
        let unused: Vec<&String> =
            self.reader.tensors().keys().filter(|name| !self.used.contains(*name)).collect();
        if unused.is_empty() { Ok(()) } else { Err(format!("compared with nothing: {unused:?}")) }
    }
}

/// Ten times what the reference's f32 run loses against f64.
const F32_RUN: f64 = 2e-5;

/// Bounds on errors of one backend.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// Absolute, on logits, hidden states and routing weights.
    pub value: f64,
    /// Relative norm, on gradients.
    pub gradient: f64,
    /// Relative, on losses.
    pub loss: f64,
}

/// Comparisons of one case: the worst error of each kind, and what went beyond its bound.
pub struct Report {
    pub tolerance: Tolerance,
    pub worst: std::collections::BTreeMap<&'static str, f64>,
    pub failures: Vec<String>,
}

impl Report {
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, worst: std::collections::BTreeMap::new(), failures: Vec::new() }
    }

    fn note(&mut self, kind: &'static str, what: &str, error: f64, bound: f64) {
        let worst = self.worst.entry(kind).or_insert(0.0);
        // `max` would hide a NaN.
        if error.is_nan() || error > *worst {
            *worst = error;
        }
        if error.is_nan() || error > bound {
            self.failures.push(format!("{what}: error {error:.3e} beyond {bound:.1e}"));
        }
    }

    /// Largest absolute difference over the rows that `keep` (all where none); bound grows with values above 1.
    pub fn values(
        &mut self,
        kind: &'static str,
        what: &str,
        ours: &[f64],
        theirs: &[f64],
        keep: Option<&[bool]>,
    ) {
        if ours.len() != theirs.len() || ours.is_empty() {
            self.failures.push(format!("{what}: {} elements against {}", ours.len(), theirs.len()));
            return;
        }
        let row = keep.map_or(ours.len(), |keep| ours.len() / keep.len());
        let mut worst = 0.0f64;
        for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
            if keep.is_none_or(|keep| keep[index / row]) {
                let error = (a - b).abs() / b.abs().max(1.0);
                worst = if error.is_nan() { f64::NAN } else { worst.max(error) };
                if worst.is_nan() {
                    break;
                }
            }
        }
        self.note(kind, what, worst, self.tolerance.value);
    }

    /// [`Report::values`] against numbers of the reference's own f32 run: never closer than that run itself.
    pub fn values_of_f32_run(&mut self, what: &str, ours: &[f64], theirs: &[f64], keep: &[bool]) {
        let tolerance = self.tolerance;
        self.tolerance.value = tolerance.value.max(F32_RUN);
        self.values("f32 run", what, ours, theirs, Some(keep));
        self.tolerance = tolerance;
    }

    pub fn gradient(&mut self, what: &str, ours: &[f64], theirs: &[f64]) {
        if ours.len() != theirs.len() {
            self.failures.push(format!("{what}: {} elements against {}", ours.len(), theirs.len()));
            return;
        }
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let reference = norm(&mut theirs.iter().copied());
        let difference = norm(&mut ours.iter().zip(theirs).map(|(a, b)| a - b));
        // A gradient that is zero but for rounding is compared with this floor.
        self.note("gradient", what, difference / reference.max(1e-4), self.tolerance.gradient);
    }

    pub fn loss(&mut self, what: &str, ours: f64, theirs: f64) {
        self.note("loss", what, (ours - theirs).abs() / theirs.abs().max(1.0), self.tolerance.loss);
    }

    pub fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, ours: &[T], theirs: &[T]) {
        if ours == theirs {
            return;
        }
        let first = ours.iter().zip(theirs).position(|(a, b)| a != b);
        let pair = first.map(|at| (at, &ours[at], &theirs[at]));
        self.failures.push(format!("{what}: differs, first at {pair:?}"));
    }
}
