//! Test cases: parameters and arrays, and a record of which of them a runner has used.

use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Parameters that describe how a case was made and change nothing about how it is run.
const DESCRIPTIVE: [&str; 4] = ["note", "tie_rule", "layout", "min_margin"];

/// An array of a case. Integers and booleans are held as f64, exactly.
#[derive(Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// One case of the manifest.
pub struct Case {
    pub name: String,
    pub params: Value,
    arrays: BTreeMap<String, Array>,
    used: RefCell<BTreeSet<String>>,
}

/// A failure, in words.
pub type Outcome<T = ()> = Result<T, String>;

/// The folder of the test vectors.
pub fn vectors_folder() -> PathBuf {
    match std::env::var_os("EMO_VECTORS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"),
    }
}

/// Every case of `folder/manifest.json`, in its order.
pub fn load_cases(folder: &Path) -> Outcome<Vec<Case>> {
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: serde_json::Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    for entry in std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let file = entry.map_err(|e| e.to_string())?.path();
        let listed = file.file_stem().is_some_and(|stem| manifest.contains_key(&*stem.to_string_lossy()));
        if file.extension().is_some_and(|extension| extension == "npz") && !listed {
            return Err(format!("{} is not in the manifest", file.display()));
        }
    }
    manifest.iter().map(|(name, entry)| load_case(folder, name, entry)).collect()
}

fn load_case(folder: &Path, name: &str, entry: &Value) -> Outcome<Case> {
    let path = folder.join(format!("{name}.npz"));
    let context = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let mut case = Case::new(name, entry["params"].clone());
    let mut archive = npyz::npz::NpzArchive::open(&path).map_err(|e| context(&e))?;
    for array in archive.array_names().map(String::from).collect::<Vec<_>>() {
        let file = archive.by_name(&array).map_err(|e| context(&e))?.ok_or_else(|| context(&array))?;
        let shape: Vec<usize> = file.shape().iter().map(|n| *n as usize).collect();
        if file.order() != npyz::Order::C {
            return Err(context(&format!("{array} is not in C order")));
        }
        let dtype = file.dtype().descr();
        let values = match dtype.trim_matches('\'') {
            "<f8" => file.into_vec::<f64>().map_err(|e| context(&e))?,
            "<f4" => file.into_vec::<f32>().map_err(|e| context(&e))?.into_iter().map(f64::from).collect(),
            "<i8" => file.into_vec::<i64>().map_err(|e| context(&e))?.into_iter().map(|v| v as f64).collect(),
            "|b1" => file.into_vec::<bool>().map_err(|e| context(&e))?.into_iter().map(f64::from).collect(),
            other => return Err(context(&format!("{array} has the unknown dtype {other}"))),
        };
        let listed = &entry["arrays"][&array][1];
        if *listed != serde_json::json!(shape) {
            return Err(context(&format!("{array} has shape {shape:?}, the manifest says {listed}")));
        }
        case.insert(&array, &shape, &values);
    }
    match entry["arrays"].as_object().and_then(|listed| listed.keys().find(|key| !case.has(key))) {
        Some(missing) => Err(context(&format!("{missing} is listed but missing"))),
        None => Ok(case),
    }
}

impl Case {
    /// A case without arrays.
    pub fn new(name: &str, params: Value) -> Self {
        Self { name: name.into(), params, arrays: BTreeMap::new(), used: RefCell::default() }
    }

    /// Adds or replaces an array.
    pub fn insert(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        self.arrays.insert(name.into(), Array { shape: shape.to_vec(), values: values.to_vec() });
    }

    /// Whether the case has an array, without counting as a use of it.
    pub fn has(&self, array: &str) -> bool {
        self.arrays.contains_key(array)
    }

    /// An array; counts as used (for `out_*`: as compared).
    pub fn array(&self, name: &str) -> Outcome<&Array> {
        self.used.borrow_mut().insert(name.into());
        self.arrays.get(name).ok_or_else(|| format!("array {name} is missing"))
    }

    /// An array's values.
    pub fn values(&self, name: &str) -> Outcome<&[f64]> {
        Ok(&self.array(name)?.values)
    }

    /// An array of the given rank: its shape.
    pub fn shape<const N: usize>(&self, name: &str) -> Outcome<[usize; N]> {
        let shape = &self.array(name)?.shape;
        shape
            .as_slice()
            .try_into()
            .map_err(|_| format!("{name} has shape {shape:?}, expected {N} dimensions"))
    }

    /// An array of indices.
    pub fn indices(&self, name: &str) -> Outcome<Vec<u32>> {
        let index = |v: &f64| {
            let index = *v as u32;
            (f64::from(index) == *v).then_some(index).ok_or_else(|| format!("{name} holds {v}, not an index"))
        };
        self.values(name)?.iter().map(index).collect()
    }

    /// A parameter; null and absent are the same.
    pub fn param(&self, name: &str) -> Option<&Value> {
        self.used.borrow_mut().insert(name.into());
        self.params.get(name).filter(|value| !value.is_null())
    }

    /// A number that must be there, under the first of these names.
    pub fn number(&self, names: &[&str]) -> Outcome<f64> {
        self.optional_number(names)?.ok_or_else(|| format!("parameter {} is missing", names[0]))
    }

    /// A number that may be absent.
    pub fn optional_number(&self, names: &[&str]) -> Outcome<Option<f64>> {
        let mut found = None;
        for name in names {
            if let Some(value) = self.param(name) {
                found = Some(
                    value.as_f64().ok_or_else(|| format!("parameter {name} = {value} is not a number"))?,
                );
            }
        }
        Ok(found)
    }

    /// A count that must be there.
    pub fn count(&self, name: &str) -> Outcome<usize> {
        self.optional_count(&[name])?.ok_or_else(|| format!("parameter {name} is missing"))
    }

    /// A count that may be absent.
    pub fn optional_count(&self, names: &[&str]) -> Outcome<Option<usize>> {
        let Some(value) = self.optional_number(names)? else { return Ok(None) };
        let count = value as usize;
        (count as f64 == value)
            .then_some(Some(count))
            .ok_or_else(|| format!("{} = {value} is not a count", names[0]))
    }

    /// A list of lists of counts that may be absent.
    pub fn counts_by_row(&self, name: &str) -> Outcome<Option<Vec<Vec<u32>>>> {
        let Some(value) = self.param(name) else { return Ok(None) };
        serde_json::from_value(value.clone()).map(Some).map_err(|e| format!("parameter {name}: {e}"))
    }

    /// Checks that the sizes a case states agree with those of its arrays.
    pub fn sizes(&self, sizes: &[(&str, usize)]) -> Outcome {
        for (name, size) in sizes {
            if let Some(stated) = self.optional_count(&[name])?
                && stated != *size
            {
                return Err(format!("parameter {name} = {stated}, but the arrays say {size}"));
            }
        }
        Ok(())
    }

    /// The result of a run, failed where the runner left an array or a parameter aside.
    pub fn finish(&self, result: Outcome) -> Outcome {
        result?;
        let used = self.used.borrow();
        if let Some(array) = self.arrays.keys().find(|name| !used.contains(*name)) {
            return Err(format!("array {array} is unknown to this kind: nothing used or compared it"));
        }
        let params = self.params.as_object().ok_or("the parameters are not an object")?;
        match params.keys().find(|name| !used.contains(*name) && !DESCRIPTIVE.contains(&name.as_str())) {
            Some(name) => Err(format!("parameter {name} = {} is unknown to this kind", params[name])),
            None => Ok(()),
        }
    }
}
