//! `trainer subset`: compose files of subsets, or look at one.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::{Compose, ShowSubset, Subset};
use crate::error::Result;
use crate::output::out;
use crate::subset::ExpertSubset;
use crate::subset::compose::Composition;

/// What `--json` prints.
#[derive(Serialize)]
struct Summary {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    layer: usize,
    /// Kept experts, shared ones included.
    kept: usize,
    of: usize,
    experts: Vec<u32>,
}

/// Composes or shows.
pub fn run(args: &Subset) -> Result<()> {
    match args {
        Subset::Union(args) => compose(Composition::Union, args),
        Subset::Intersection(args) => compose(Composition::Intersection, args),
        Subset::Difference(args) => compose(Composition::Difference, args),
        Subset::Complement(args) => compose(Composition::Complement, args),
        Subset::Show(args) => show(args),
    }
}

fn compose(composition: Composition, args: &Compose) -> Result<()> {
    let subsets: Vec<ExpertSubset> =
        args.subsets.iter().map(|path| ExpertSubset::load(path)).collect::<Result<_>>()?;
    let result = composition.of(&subsets)?;
    result.save(&args.out)?;
    if args.json {
        return print_json(&result, Some(args.out.clone()));
    }
    out!("{} in {}", result.words(), args.out.display());
    for layer in result.layers().iter().filter(|layer| layer.experts.is_empty()) {
        out!("layer {} keeps no routed expert: no model can run with this", layer.layer);
    }
    Ok(())
}

fn show(args: &ShowSubset) -> Result<()> {
    let subset = ExpertSubset::load(&args.subset)?;
    if args.json {
        return print_json(&subset, None);
    }
    out!("{}", subset.words());
    for layer in subset.layers() {
        let experts: Vec<String> = layer.experts.iter().map(ToString::to_string).collect();
        let (kept, of) = (layer.kept(), layer.routed + layer.shared);
        out!("  layer {}: {kept} of {of}, routed {}", layer.layer, experts.join(" "));
    }
    if let Some(made) = subset.made() {
        let domain = made.domain.as_ref().map_or_else(String::new, |domain| format!(" of {domain}"));
        out!("  made by {}{domain} from {} documents", made.method, made.documents);
    }
    Ok(())
}

fn print_json(subset: &ExpertSubset, path: Option<PathBuf>) -> Result<()> {
    let layers = subset.layers().iter().map(|layer| Layer {
        layer: layer.layer,
        kept: layer.kept(),
        of: layer.routed + layer.shared,
        experts: layer.experts.clone(),
    });
    let summary = Summary { event: "summary", path, layers: layers.collect() };
    // Numbers and strings always have a JSON form.
    out!("{}", serde_json::to_string(&summary).unwrap_or_default());
    Ok(())
}
