//! The JSON file of a subset.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ExpertSubset, LayerSubset};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::replace::replace_with;
use crate::small;

const FORMAT: &str = "emo-expert-subset-1";

/// How a subset was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    /// The ranking: `layerwise`, `mass`, `easy-ep`, `random`, or what combined it.
    pub method: String,
    /// The domain of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Documents or prompts that were looked at.
    pub documents: usize,
    /// Tokens of these.
    pub tokens: u64,
    /// Seed of the choice of documents and of the random ranking.
    pub seed: u64,
    /// The checkpoint whose router was asked.
    pub checkpoint: String,
    /// What the documents were chosen from: `train`, `valid`, a folder or `prompt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The file. `routed` and `shared` stand here where all layers agree, else in each layer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routed: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<usize>,
    layers: Vec<Layer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<Made>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    layer: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routed: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<usize>,
    experts: Vec<u32>,
}

impl ExpertSubset {
    /// The subset in a file.
    ///
    /// # Errors
    /// A file that cannot be read, is no subset, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self> {
        let text = small::text(path).map_err(Error::io("read", path))?;
        Self::from_json(&text).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
    }

    /// [`ExpertSubset::load`] for a model; see [`ExpertSubset::check`].
    ///
    /// # Errors
    /// Those of both, naming the file.
    pub fn load_for(path: &Path, model: &ModelConfig) -> Result<Self> {
        let subset = Self::load(path)?;
        subset.check(model).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))?;
        Ok(subset)
    }

    /// The subset of a file's text.
    ///
    /// # Errors
    /// See [`ExpertSubset::load`].
    pub fn from_json(text: &str) -> Result<Self> {
        let refuse = |message: String| Error::Usage(format!("not a subset of experts: {message}"));
        let file: File = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
        if file.format != FORMAT {
            return Err(refuse(format!("`format` is \"{}\"; this program reads \"{FORMAT}\"", file.format)));
        }
        let layers = file.layers.into_iter().map(|layer| {
            let number = layer.layer;
            let needed = |own: Option<usize>, all: Option<usize>, key: &str| {
                own.or(all).ok_or_else(|| refuse(format!("`{key}` is missing for layer {number}")))
            };
            Ok(LayerSubset {
                layer: number,
                routed: needed(layer.routed, file.routed, "routed")?,
                shared: needed(layer.shared, file.shared, "shared")?,
                experts: layer.experts,
            })
        });
        let subset = Self::new(layers.collect::<Result<_>>()?)?;
        Ok(match file.made {
            Some(made) => subset.with_made(made),
            None => subset,
        })
    }

    /// The text of the file, the same for the same subset.
    #[must_use]
    pub fn to_json(&self) -> String {
        let same = |value: fn(&LayerSubset) -> usize| {
            let first = self.layers().first().map(value);
            first.filter(|&first| self.layers().iter().all(|layer| value(layer) == first))
        };
        let (routed, shared) = (same(|layer| layer.routed), same(|layer| layer.shared));
        let layers = self.layers().iter().map(|layer| Layer {
            layer: layer.layer,
            routed: routed.is_none().then_some(layer.routed),
            shared: shared.is_none().then_some(layer.shared),
            experts: layer.experts.clone(),
        });
        let made = self.made().cloned();
        let file = File { format: FORMAT.into(), routed, shared, layers: layers.collect(), made };
        // Numbers and strings always have a JSON form.
        serde_json::to_string(&file).unwrap_or_default() + "\n"
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save(&self, path: &Path) -> Result<()> {
        replace_with(path, self.to_json().as_bytes()).map_err(Error::io("write", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_back_and_says_routed_in_each_layer_only_where_they_differ() {
        let layer = |layer, routed| LayerSubset { layer, routed, shared: 1, experts: vec![0, 2] };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subset.json");
        for second in [6, 7] {
            let made = Made { method: "layerwise".into(), documents: 5, ..Made::default() };
            let subset = ExpertSubset::new(vec![layer(0, 6), layer(3, second)]).unwrap().with_made(made);
            subset.save(&path).unwrap();
            assert_eq!(ExpertSubset::load(&path).unwrap(), subset);
            let json: serde_json::Value = serde_json::from_str(&subset.to_json()).unwrap();
            assert_eq!(json.get("routed").is_some(), second == 6);
            assert_eq!(json["layers"][1].get("routed").is_some(), second == 7);
            assert_eq!(json["shared"], 1);
        }
    }

    #[test]
    fn what_is_no_subset_is_refused_in_words() {
        for (text, word) in [
            ("{", "not a subset"),
            (r#"{"format": "other", "layers": []}"#, "this program reads"),
            (r#"{"format": "emo-expert-subset-1", "layers": [{"layer": 0, "experts": [1]}]}"#, "`routed`"),
            (
                r#"{"format": "emo-expert-subset-1", "routed": 4, "layers": [{"layer": 0, "experts": [1]}]}"#,
                "`shared`",
            ),
            (
                r#"{"format": "emo-expert-subset-1", "routed": 4, "shared": 0, "layers": [{"layer": 0, "experts": [4]}]}"#,
                "each below 4",
            ),
            (r#"{"format": "emo-expert-subset-1", "routed": 4, "shared": 0, "layers": []}"#, "at least one"),
        ] {
            let message = ExpertSubset::from_json(text).unwrap_err().to_string();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
