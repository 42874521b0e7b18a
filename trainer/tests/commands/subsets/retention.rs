//! `trainer retention` on a tiny model.

use crate::support::{Place, fail, stdout, succeed, summary};

#[test]
fn retention_is_what_select_and_eval_find_one_by_one() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "6"]));
    let grid = [
        "retention",
        "--json",
        "--checkpoint",
        "run",
        "--rows",
        "4",
        "--batch",
        "4",
        "--across",
        "--keep",
        "100%",
        "--keep",
        "50%",
        "--documents",
        "1,3",
        "--method",
        "layerwise,random",
        "--out",
        "retention.json",
    ];
    let found = summary(&succeed(place.trainer().args(grid)));
    let subsets = found["subsets"].as_array().unwrap();
    // Chosen for two domains, measured on two; two numbers of documents, of which a draw needs none; two sizes.
    assert_eq!(subsets.len(), 2 * 2 * 3 * 2);
    for subset in subsets.iter().filter(|subset| subset["kept"][0] == subset["kept"][1]) {
        assert_eq!(subset["rise"], 0.0, "all experts are the whole model: {subset}");
    }
    assert_eq!(found["means"].as_array().unwrap().len(), 3 * 2);
    let written: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("retention.json")).unwrap()).unwrap();
    assert_eq!(written, found);

    let select = ["select", "--checkpoint", "run", "--domain", "code", "--keep", "50%", "--documents", "3"];
    succeed(place.trainer().args(select).args(["--out", "code.json"]));
    let eval = ["eval", "--json", "--rows", "4", "--batch", "4", "--checkpoint", "run"];
    let whole = summary(&succeed(place.trainer().args(eval)));
    let masked = summary(&succeed(place.trainer().args(eval).args(["--experts", "code.json"])));
    for domain in ["code", "prose"] {
        let cell = subsets.iter().find(|subset| {
            (&subset["method"], &subset["documents"], &subset["kept"][0])
                == (&"layerwise".into(), &3.into(), &4.into())
                && (&subset["chosen_for"], &subset["domain"]) == (&"code".into(), &domain.into())
        });
        assert_eq!(cell.unwrap()["bits_per_byte"], masked["domains"][domain]["bits_per_byte"]);
        let full = found["full"].as_array().unwrap().iter().find(|full| full["domain"] == domain).unwrap();
        assert_eq!(full["bits_per_byte"], whole["domains"][domain]["bits_per_byte"]);
    }
}

#[test]
fn subsets_that_differ_in_any_layer_are_lines_of_their_own() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "1"]));
    let grid = ["retention", "--checkpoint", "run", "--rows", "2", "--keep", "4,4", "--keep", "4,2"];
    let found = summary(&succeed(place.trainer().args(grid).arg("--json")));
    let means = found["means"].as_array().unwrap();
    let layers: Vec<_> = means.iter().map(|mean| (&mean["kept"], &mean["layers"])).collect();
    let (kept, four, two) = (serde_json::json!([4, 8]), serde_json::json!([4, 4]), serde_json::json!([4, 2]));
    assert_eq!(layers, [(&kept, &four), (&kept, &two)]);
    let table = stdout(&succeed(place.trainer().args(grid)));
    assert!(table.contains(" 4 of 8 ") && table.contains(" 4,2 "), "{table}");
}

#[test]
fn a_grid_that_cannot_be_is_refused() {
    let place = Place::new();
    succeed(&mut place.pretrain("run", &["--steps", "1"]));
    for (more, word) in [
        (&["--keep", "1"][..], "1 shared experts"),
        (&["--documents", "0"], "positive"),
        (&["--rows", "0"], "positive"),
    ] {
        let said = fail(place.trainer().args(["retention", "--checkpoint", "run"]).args(more), 2);
        assert!(said.contains(word), "{said}");
    }
}
