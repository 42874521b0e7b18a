//! Import and export keep every bit that they promise to keep, and refuse what a family cannot express.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{Place, fail, names, succeed};
use half::bf16;
use trainer::checkpoint::safetensors::Reader;

/// Type, shape and bytes of every tensor of a folder, whatever its files.
fn tensors(folder: &Path) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        let mut file = Reader::open(&folder.join(name)).unwrap();
        let infos: Vec<_> = file.tensors().clone().into_iter().collect();
        for (name, info) in infos {
            let bytes = file.bytes(&name).unwrap();
            found.insert(name, (info.dtype.to_string(), info.shape, bytes));
        }
    }
    found
}

/// Every checkpoint of another program among the test vectors.
fn foreign() -> Vec<PathBuf> {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let of = |folder: &str| {
        let folder = vectors.join(folder);
        names(&folder).into_iter().map(move |name| folder.join(name)).collect::<Vec<_>>()
    };
    [of("hf"), of("emo_hf")].concat().into_iter().filter(|path| path.join("config.json").exists()).collect()
}

fn family(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["model_type"].as_str().unwrap().to_owned()
}

#[test]
fn importing_and_exporting_back_gives_the_same_names_and_bytes() {
    let place = Place::new();
    let foreign = foreign();
    assert!(foreign.len() >= 5, "{foreign:?}");
    for (index, original) in foreign.iter().enumerate() {
        let (ours, back) = (place.path(&format!("import-{index}")), place.path(&format!("export-{index}")));
        succeed(place.trainer().arg("import").arg(original).arg("--out").arg(&ours));
        assert_eq!(family(&ours), "emo");
        let export = ["export", "--family", &family(original), "--shard-mb", "1", "--checkpoint"];
        succeed(place.trainer().args(export).arg(&ours).arg("--out").arg(&back));
        let mut before = tensors(original);
        // Rotary tables follow from the configuration.
        before.retain(|name, _| !name.ends_with("inv_freq"));
        assert!(before == tensors(&back), "{}", original.display());
        assert_eq!(family(&back), family(original));
    }
}

#[test]
fn bf16_rounds_to_the_nearest_and_comes_back_exactly() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "2"]));
    let (narrow, wide) = (place.path("narrow"), place.path("wide"));
    let export = ["export", "--dtype", "bf16", "--checkpoint"];
    succeed(place.trainer().args(export).arg(place.path("run")).arg("--out").arg(&narrow));
    succeed(place.trainer().arg("import").arg(&narrow).args(["--dtype", "f32", "--out"]).arg(&wide));
    let (run, narrow, wide) = (tensors(&place.step("run", 2)), tensors(&narrow), tensors(&wide));
    let mut rounded = 0;
    for (name, (_, shape, bytes)) in &run {
        let expected: Vec<bf16> =
            bytes.as_chunks().0.iter().map(|&b| bf16::from_f32(f32::from_le_bytes(b))).collect();
        let (dtype, narrow_shape, narrow_bytes) = &narrow[name];
        let found: Vec<bf16> = narrow_bytes.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b)).collect();
        assert_eq!((dtype.as_str(), narrow_shape), ("BF16", shape), "{name}");
        assert!(found == expected, "{name}");
        let (dtype, _, wide_bytes) = &wide[name];
        let found: Vec<f32> = wide_bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
        let expected: Vec<f32> = expected.iter().map(|value| value.to_f32()).collect();
        assert!(dtype == "F32" && found == expected, "{name}");
        rounded += usize::from(wide_bytes != bytes);
    }
    assert!(rounded > 0, "rounding changed nothing at all");
}

#[test]
fn a_model_in_many_files_is_read_like_one_file() {
    let place = Place::new();
    let large = [
        "--steps",
        "1",
        "--set",
        "model.width=128",
        "--set",
        "router.experts=64",
        "--set",
        "router.pool=none",
    ];
    succeed(&mut place.pretrain("run", &large));
    let out = place.path("out");
    let export = ["export", "--shard-mb", "1", "--checkpoint"];
    succeed(place.trainer().args(export).arg(place.path("run")).arg("--out").arg(&out));
    let files = names(&out);
    assert!(files.iter().filter(|name| name.ends_with(".safetensors")).count() > 2, "{files:?}");
    assert!(files.contains(&"model.safetensors.index.json".to_owned()), "{files:?}");
    assert!(tensors(&place.step("run", 1)) == tensors(&out));
    let generate =
        ["generate", "--tokens", "3", "--temperature", "0", "--json", "--prompt", "pub", "--checkpoint"];
    let text = |folder: &Path| {
        let output = succeed(place.trainer().args(generate).arg(folder));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json["text"].clone()
    };
    assert_eq!(text(&place.path("run")), text(&out));
}

#[test]
fn what_a_family_cannot_express_is_named() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "1"]));
    let export = |family: &str| {
        let mut command = place.trainer();
        command.args(["export", "--family", family, "--checkpoint"]).arg(place.path("run"));
        command.arg("--out").arg(place.path("out"));
        command
    };
    for family in ["olmoe", "flex_olmo", "mixtral", "qwen3_moe"] {
        let said = fail(&mut export(family), 1);
        assert!(said.contains(family) && said.contains("Export it as `emo`"), "{said}");
        assert!(!place.path("out").join("config.json").exists());
    }
    succeed(&mut export("emo"));
    let said = fail(&mut export("emo"), 2);
    assert!(said.contains("--force"), "{said}");
    succeed(export("emo").arg("--force"));
    let same = place.step("run", 1);
    let said = fail(place.trainer().args(["import", "--force"]).arg(&same).arg("--out").arg(&same), 2);
    assert!(said.contains("another folder") && same.join("model.safetensors").exists(), "{said}");
}
