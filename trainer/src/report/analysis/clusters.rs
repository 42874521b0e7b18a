//! The explorer of token clusters: every cluster with its terms, its domains, and tokens where they stand in their text.

use std::fmt::Write;

use super::columns;
use crate::analysis::{Analysis, Cluster, Clusters, Context};
use crate::report::chart::colour_class;
use crate::report::html::{escape, figure};

/// Degrees between the hues of consecutive experts: the golden angle keeps any few of them apart.
const HUE: f64 = 137.508;

/// All clusters of all models, with what filters them.
pub(super) fn section(models: &[&Analysis], names: &[String]) -> String {
    if models.iter().all(|model| model.clusters.is_none()) {
        return String::new();
    }
    let bodies = models.iter().enumerate().map(|(index, model)| match &model.clusters {
        Some(clusters) => explorer(index, model, clusters),
        None => "<p>not clustered</p>".into(),
    });
    let caption = "Tokens that are routed alike, whatever they spell, gathered by the probabilities that the routers of all layers give \
                   to the experts. A cluster is called after the words that are typical of it. Where a model is modular, clusters are \
                   about topics and mostly of one kind of text; otherwise about single words and word pieces. In the excerpts the \
                   boxed token belongs to the cluster, and every colour is one expert: the strongest of the chosen layer.";
    let intro =
        figure("Clusters of tokens", caption, &format!("{}{}", summary(models, names), legend(models)));
    format!(
        "<section id=\"clusters\"><h2>What tokens are routed alike</h2>\n{intro}{}{}</section>\n",
        controls(models),
        columns(names, bodies.collect())
    )
}

fn summary(models: &[&Analysis], names: &[String]) -> String {
    let or_none =
        |value: Option<f64>, decimals| value.map_or("–".into(), |value| format!("{value:.decimals$}"));
    let said = models.iter().zip(names).filter_map(|(model, name)| {
        let found = model.clusters.as_ref()?;
        Some(format!(
            "<li><strong>{}</strong>: {} tokens (of the first {} of each document), {} router probabilities each, {} principal \
             components, {} clusters after {} mini-batches and {} passes. Silhouette {:.3}; Calinski-Harabasz {}; Davies-Bouldin {}; \
             domain purity {:.3}, where one cluster of everything has {:.3}; the cluster tells {:.3} bits about the domain and \
             leaves {} open (source entropy).</li>",
            escape(name),
            found.tokens,
            found.prefix,
            found.features,
            found.components,
            found.clusters.len(),
            found.batches,
            found.passes,
            found.silhouette,
            or_none(found.calinski_harabasz, 1),
            or_none(found.davies_bouldin, 3),
            found.purity,
            found.purity_of_one,
            found.information_bits,
            or_none(found.source_entropy_bits, 3)
        ))
    });
    format!("<ul class=\"plain\">{}</ul>", said.collect::<String>())
}

/// Every domain of any model, in the order in which they first stand.
fn all_domains(models: &[&Analysis]) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    for name in models.iter().flat_map(|model| model.domains()) {
        if !domains.contains(&name) {
            domains.push(name);
        }
    }
    domains
}

fn legend(models: &[&Analysis]) -> String {
    let key = all_domains(models).into_iter().enumerate().map(|(colour, name)| {
        format!(
            "<span class=\"key-domain\"><i class=\"{}\"></i>{}</span>",
            colour_class(colour),
            escape(&name)
        )
    });
    format!("<p class=\"keys\">{}</p>", key.collect::<String>())
}

/// Shown by the script, which makes them work.
fn controls(models: &[&Analysis]) -> String {
    let option =
        |value: &str, text: &str| format!("<option value=\"{}\">{}</option>", escape(value), escape(text));
    let domains: String = all_domains(models).iter().map(|name| option(name, name)).collect();
    let mut layers: Vec<usize> =
        models.iter().flat_map(|model| model.layers.iter().map(|layer| layer.layer)).collect();
    layers.sort_unstable();
    layers.dedup();
    let layers: String =
        layers.iter().rev().map(|layer| option(&layer.to_string(), &format!("layer {layer}"))).collect();
    format!(
        "<form id=\"controls\" class=\"controls\" hidden><label>Search <input type=\"search\" name=\"q\" placeholder=\"a word, in names, terms and \
         excerpts\"></label><label>Mostly <select name=\"domain\"><option value=\"\">any domain</option>{domains}</select></label>\
         <label>Sort by <select name=\"sort\">{}{}{}{}</select></label><label>Colours of <select name=\"layer\">{layers}</select></label>\
         <output id=\"count\"></output></form>\n",
        option("tokens", "size"),
        option("purity", "purity"),
        option("silhouette", "silhouette"),
        option("name", "name")
    )
}

fn explorer(index: usize, model: &Analysis, clusters: &Clusters) -> String {
    let mut out = format!("<div class=\"clusters\" data-model=\"{index}\">\n");
    for (number, cluster) in clusters.clusters.iter().enumerate() {
        out.push_str(&article(number, cluster, model, clusters.tokens));
    }
    out.push_str("</div>\n");
    out
}

fn article(number: usize, cluster: &Cluster, model: &Analysis, all: usize) -> String {
    let domains = &model.sample.domains;
    let size = cluster.tokens.max(1) as f64;
    let main = (0..domains.len()).max_by_key(|&domain| (cluster.domains[domain], std::cmp::Reverse(domain)));
    let (main, share) = main
        .map_or(("", 0.0), |domain| (domains[domain].name.as_str(), cluster.domains[domain] as f64 / size));
    let mut out = format!(
        "<article class=\"cluster\" data-index=\"{number}\"><h4>{}</h4>\n<p class=\"facts\">{} tokens ({:.1}%) · {:.0}% {} · \
         silhouette {:.2}</p>\n{}",
        escape(&cluster.name),
        cluster.tokens,
        100.0 * cluster.tokens as f64 / all.max(1) as f64,
        100.0 * share,
        escape(main),
        cluster.silhouette,
        domain_bar(cluster, model)
    );
    let shown = cluster.terms.iter().chain(&cluster.characters);
    let terms = shown.map(|term| {
        format!(
            "<li title=\"{} tokens, score {:.4}\">{}</li>",
            term.count,
            term.score,
            escape(&visible(&term.text))
        )
    });
    let _ = writeln!(out, "<ul class=\"terms\">{}</ul>", terms.collect::<String>());
    if !cluster.contexts.is_empty() {
        let contexts = cluster.contexts.iter().enumerate();
        let shown: String = contexts.map(|(place, context)| excerpt(place, context, model)).collect();
        let _ =
            write!(out, "<details><summary>{} excerpts</summary>{shown}</details>", cluster.contexts.len());
    }
    out.push_str("</article>\n");
    out
}

/// Parts of the cluster's domains, side by side.
fn domain_bar(cluster: &Cluster, model: &Analysis) -> String {
    let mut out = String::from(
        "<svg class=\"mix\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"Domains of the cluster\">",
    );
    let (size, mut x) = (cluster.tokens.max(1) as f64, 0.0);
    for (colour, (&count, domain)) in cluster.domains.iter().zip(&model.sample.domains).enumerate() {
        let width = 100.0 * count as f64 / size;
        if count > 0 {
            let _ = write!(
                out,
                "<rect class=\"bar {}\" x=\"{x:.2}\" y=\"0\" width=\"{width:.2}\" height=\"6\"><title>{}: {count} tokens = {width:.1}%\
                 </title></rect>",
                colour_class(colour),
                escape(&domain.name)
            );
        }
        x += width;
    }
    out.push_str("</svg>\n");
    out
}

/// What cannot be seen gets a sign; `explore.js` does the same.
fn visible(text: &str) -> String {
    text.replace('\n', "↵ ").replace('\t', " ").replace('\r', "")
}

/// One excerpt, coloured by the last layer: runs of tokens on the same expert are one element, the token itself its own.
fn excerpt(place: usize, context: &Context, model: &Analysis) -> String {
    let mut out = format!(
        "<p class=\"excerpt\" data-place=\"{place}\"><span class=\"from\">{}</span>",
        escape(&model.sample.domains[context.domain as usize].name)
    );
    let Some(experts) = context.experts.last() else { return out + "</p>" };
    let mut start = 0;
    while start < context.pieces.len() {
        let end = if start == context.at {
            start + 1
        } else {
            let same = |&at: &usize| experts[at] == experts[start] && at != context.at;
            (start + 1..context.pieces.len()).take_while(same).last().map_or(start + 1, |last| last + 1)
        };
        let tag = if start == context.at { "mark" } else { "span" };
        let _ = write!(
            out,
            "<{tag} class=\"t\" style=\"--hue:{:.0}\" title=\"expert {}\">{}</{tag}>",
            (f64::from(experts[start]) * HUE) % 360.0,
            experts[start],
            escape(&visible(&context.pieces[start..end].concat()))
        );
        start = end;
    }
    out.push_str("</p>");
    out
}
