//! The presets, built into the binary.

/// Name and TOML text of every preset, the first one to try first.
const PRESETS: [(&str, &str); 17] = [
    ("quickstart", include_str!("../../presets/quickstart.toml")),
    ("tiny", include_str!("../../presets/tiny.toml")),
    ("standard", include_str!("../../presets/standard.toml")),
    ("dense", include_str!("../../presets/dense.toml")),
    ("emo", include_str!("../../presets/emo.toml")),
    ("ai2-compat", include_str!("../../presets/ai2-compat.toml")),
    ("emo-nano", include_str!("../../presets/emo-nano.toml")),
    ("emo-nano-standard", include_str!("../../presets/emo-nano-standard.toml")),
    ("emo-nano-dense", include_str!("../../presets/emo-nano-dense.toml")),
    ("emo-small", include_str!("../../presets/emo-small.toml")),
    ("emo-small-standard", include_str!("../../presets/emo-small-standard.toml")),
    ("emo-small-dense", include_str!("../../presets/emo-small-dense.toml")),
    ("emo-1b14b", include_str!("../../presets/emo-1b14b.toml")),
    ("emo-1b14b-standard", include_str!("../../presets/emo-1b14b-standard.toml")),
    ("emo-1b14b-dense", include_str!("../../presets/emo-1b14b-dense.toml")),
    ("modularity", include_str!("../../presets/modularity.toml")),
    ("bench-olmoe", include_str!("../../presets/bench-olmoe.toml")),
];

/// The text of a preset.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|preset| preset.0 == name).map(|preset| preset.1)
}

/// What a preset is for: the comment that its text begins with.
#[must_use]
pub fn purpose(name: &str) -> &'static str {
    let first = text(name).and_then(|text| text.lines().next()).unwrap_or_default();
    first.trim_start_matches("# ").trim_end_matches(['.', ':'])
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|preset| preset.0)
}
