//! The figures at the top, and the tables at the end.

use std::fmt::Write;

use crate::analysis::{Analysis, LayerAnalysis};
use crate::report::html::{escape, figure, fold, table};

/// One figure of a model and how to read it.
struct Figure {
    name: &'static str,
    note: &'static str,
    value: fn(&Analysis) -> Option<f64>,
    decimals: usize,
}

const FIGURES: [Figure; 10] = [
    Figure {
        name: "information",
        note: "bits that the domain tells about the expert, mean of the layers, less what chance grouping gives",
        value: |model| model.mean(|layer| Some(layer.information.bits - layer.information.by_lot)),
        decimals: 3,
    },
    Figure {
        name: "domain similarity",
        note: "cosine of two domains' use of experts, mean of pairs and layers; lower is more modular",
        value: |model| model.mean(|layer| layer.similarity.mean_cosine()),
        decimals: 3,
    },
    Figure {
        name: "effective experts",
        note: "of a document, mean of the layers; fewer is more modular",
        value: |model| model.mean(|layer| Some(layer.effective_experts.mean)),
        decimals: 1,
    },
    Figure {
        name: "jitter",
        note: "share of experts that change from one token to the next",
        value: |model| model.mean(|layer| Some(layer.jitter.mean)),
        decimals: 3,
    },
    Figure {
        name: "redundancy",
        note: "CKA of two experts' outputs, unbiased; 0 is unrelated, 1 the same",
        value: |model| model.mean(|layer| layer.redundancy.as_ref().map(|found| found.mean_unbiased)),
        decimals: 3,
    },
    Figure {
        name: "domain purity",
        note: "share of tokens in the main domain of their cluster",
        value: |model| model.clusters.as_ref().map(|clusters| clusters.purity),
        decimals: 3,
    },
    Figure {
        name: "source entropy",
        note: "bits of the domain that the cluster leaves open; 0 where clusters are of one domain",
        value: |model| model.clusters.as_ref().and_then(|clusters| clusters.source_entropy_bits),
        decimals: 3,
    },
    Figure {
        name: "silhouette",
        note: "how far clusters stand apart: 1 is far, 0 not at all",
        value: |model| model.clusters.as_ref().map(|clusters| clusters.silhouette),
        decimals: 3,
    },
    Figure {
        name: "Calinski-Harabasz",
        note: "variance between clusters over that within them; higher is farther apart",
        value: |model| model.clusters.as_ref().and_then(|clusters| clusters.calinski_harabasz),
        decimals: 1,
    },
    Figure {
        name: "Davies-Bouldin",
        note: "width of clusters over the distance to the most similar other; lower is farther apart",
        value: |model| model.clusters.as_ref().and_then(|clusters| clusters.davies_bouldin),
        decimals: 3,
    },
];

/// The figures that answer "is it modular?".
pub(super) fn headline(models: &[&Analysis], names: &[String]) -> String {
    let mut out = String::new();
    for (model, name) in models.iter().zip(names) {
        let tokens: usize = model.sample.domains.iter().map(|domain| domain.tokens).sum();
        let step = model.step.map_or(String::new(), |step| format!(" after {step} steps"));
        let _ = writeln!(
            out,
            "<p class=\"lead\"><strong>{}</strong>{step}: {} layers with experts, {} tokens of {} domains ({}).</p>",
            escape(name),
            model.layers.len(),
            tokens,
            model.sample.domains.len(),
            escape(&model.sample.text)
        );
    }
    out.push_str("<div class=\"tiles\">");
    for figure in &FIGURES {
        let values: Vec<Option<f64>> = models.iter().map(|&model| (figure.value)(model)).collect();
        if values.iter().all(Option::is_none) {
            continue;
        }
        let shown = values.iter().zip(names).map(|(value, name)| {
            let value = value.map_or("–".into(), |value| format!("{value:.*}", figure.decimals));
            let whose = if models.len() > 1 { format!(" <em>{}</em>", escape(name)) } else { String::new() };
            format!("<strong>{value}{whose}</strong>")
        });
        let _ = write!(
            out,
            "<div class=\"tile\"><span>{}</span>{}<small>{}</small></div>",
            figure.name,
            shown.collect::<String>(),
            escape(figure.note)
        );
    }
    out.push_str("</div>\n");
    out
}

/// Every number of the layers, and what was read.
pub(super) fn section(models: &[&Analysis], names: &[String]) -> String {
    let mut out = String::from("<section><h2>Numbers</h2>\n");
    for (model, name) in models.iter().zip(names) {
        let head = [
            "layer",
            "experts",
            "top k",
            "information (bits)",
            "by lot",
            "less counting bias",
            "most",
            "effective experts",
            "median",
            "jitter",
            "shuffled",
            "domain cosine",
            "CKA",
            "CKA unbiased",
        ];
        let row = |layer: &LayerAnalysis| {
            let number = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
            let (info, cka) = (layer.information, layer.redundancy.as_ref());
            let mut row = vec![layer.layer.to_string(), layer.experts.to_string(), layer.top_k.to_string()];
            row.extend(
                [
                    Some(info.bits),
                    Some(info.by_lot),
                    Some(info.less_counting_bias),
                    Some(info.most),
                    Some(layer.effective_experts.mean),
                    Some(layer.effective_experts.median),
                    Some(layer.jitter.mean),
                    Some(layer.jitter.shuffled),
                    layer.similarity.mean_cosine(),
                    cka.map(|found| found.mean),
                    cka.map(|found| found.mean_unbiased),
                ]
                .map(number),
            );
            row
        };
        let rows: Vec<Vec<String>> = model.layers.iter().map(row).collect();
        let heading = format!("{name}: every layer");
        out.push_str(&fold(&heading, &table(&head.map(str::to_owned), &rows)));
        out.push_str(&fold(&format!("{name}: every domain"), &domains(model)));
    }
    let seed = models[0].sample.seed;
    let caption = format!(
        "Documents are passages of at most {} tokens, read on their own, without document pools. Information: I(domain; expert) of \
         routed slots in bits; “by lot” is its mean when the documents' domains are drawn by lot, “less counting bias” takes \
         Miller and Madow's correction away, “most” is the entropy of the domains. Effective experts: exp of the entropy of a \
         document's slots. Jitter: share of a token's experts that the token before did not have; “shuffled”: with the tokens of \
         each document in random order. Domain cosine: mean of different domains' selection frequencies. CKA: linear centred kernel \
         alignment of two experts' outputs for the same tokens. Seed {seed}.",
        models[0].sample.sequence
    );
    out.push_str(&figure("How it was measured", &caption, ""));
    out.push_str("</section>\n");
    out
}

fn domains(model: &Analysis) -> String {
    let head = [
        "domain",
        "documents",
        "tokens",
        "effective experts",
        "jitter",
        "experts above even",
        "experts used",
    ];
    let over_layers = |value: &dyn Fn(&LayerAnalysis) -> f64| {
        model.layers.iter().map(value).sum::<f64>() / model.layers.len().max(1) as f64
    };
    let row = |(index, domain): (usize, &crate::analysis::DomainSample)| {
        vec![
            domain.name.clone(),
            domain.documents.to_string(),
            domain.tokens.to_string(),
            format!("{:.2}", over_layers(&|layer| layer.effective_experts.domains[index])),
            format!("{:.4}", over_layers(&|layer| layer.jitter.domains[index])),
            format!("{:.1}", over_layers(&|layer| layer.coverage.breadth[index].above_uniform as f64)),
            format!("{:.1}", over_layers(&|layer| layer.coverage.breadth[index].used as f64)),
        ]
    };
    let rows: Vec<Vec<String>> = model.sample.domains.iter().enumerate().map(row).collect();
    table(&head.map(str::to_owned), &rows)
}
