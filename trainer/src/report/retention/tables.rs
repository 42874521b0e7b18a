//! The numbers of the curves.

use std::fmt::Write;

use super::Shown;
use super::curves::{Curve, Point};
use super::size::Size;
use crate::report::html::escape;

/// One row a curve: the mean rise, and the worst domain's in small.
pub(super) fn means(models: &[Shown], curves: &[Curve]) -> String {
    let whole = |curve: &Curve| {
        let full = &models[curve.model].measured.found.full;
        full.iter().map(|full| full.bits_per_byte).sum::<f64>() / full.len() as f64
    };
    let cell = |point: &Point| format!("{:+.2}%<small>{:+.2}%</small>", point.rise, point.beside);
    let rows = curves.iter().map(|curve| (curve, whole(curve)));
    table("means", "", rows.collect(), cell)
}

/// One row a domain and curve: the rise, and the bits per byte in small.
pub(super) fn domains(models: &[Shown], by_domain: &[(&str, Vec<Curve>)]) -> String {
    let whole = |domain: &str, curve: &Curve| {
        let full = models[curve.model].measured.found.full.iter().find(|full| full.domain == domain);
        full.map_or(f64::NAN, |full| full.bits_per_byte)
    };
    let cell = |point: &Point| format!("{:+.2}%<small>{:.4}</small>", point.rise, point.beside);
    let rows = by_domain
        .iter()
        .flat_map(|(domain, curves)| curves.iter().map(move |curve| (curve, whole(domain, curve))));
    table("domains", "<th scope=\"col\">domain</th>", rows.collect(), cell)
}

/// A row for each curve with the whole model's bits per byte, a column for each size of subset.
fn table(class: &str, before: &str, rows: Vec<(&Curve, f64)>, cell: impl Fn(&Point) -> String) -> String {
    let mut sizes: Vec<&Size> =
        rows.iter().flat_map(|(curve, _)| curve.points.iter().map(|point| &point.size)).collect();
    sizes.sort_by(|a, b| a.halvings().total_cmp(&b.halvings()).then_with(|| a.name().cmp(&b.name())));
    let mut sizes: Vec<String> = sizes.into_iter().map(Size::name).collect();
    sizes.dedup();
    let mut out = format!("<div class=\"scroll\"><table class=\"{class}\"><thead><tr>{before}");
    for head in ["model", "ranked by", "documents", "bits per byte, all experts"] {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    for size in &sizes {
        let _ = write!(out, "<th scope=\"col\">{} kept</th>", escape(size));
    }
    out.push_str("</tr></thead><tbody>\n");
    for (curve, whole) in rows {
        let text = curve.domain.as_deref().map(escape);
        let attribute = text.as_ref().map_or(String::new(), |text| format!(" data-text=\"{text}\""));
        let _ = write!(out, "<tr{}{attribute}>", curve.attributes(curve.documents, None));
        let model = escape(&curve.name);
        let _ = match text {
            Some(text) => write!(out, "<th scope=\"row\">{text}</th><td>{model}</td>"),
            None => write!(out, "<th scope=\"row\">{model}</th>"),
        };
        let whole = if whole.is_finite() { format!("{whole:.4}") } else { "–".into() };
        let documents = curve.documents.map_or("–".into(), |count| count.to_string());
        let _ = write!(out, "<td>{}</td><td>{documents}</td><td>{whole}</td>", curve.method.name());
        for size in &sizes {
            let point = curve.points.iter().find(|point| point.size.name() == *size);
            let _ = write!(out, "<td>{}</td>", point.map_or("–".into(), &cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>");
    out
}
