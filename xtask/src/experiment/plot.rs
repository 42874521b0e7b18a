//! The retention curves as a picture.

use plotters::prelude::*;

use super::document::Results;
use super::statistics::{rise, rises};

/// Rise of the loss over the share of experts kept, one line an arm: layer-wise selection from five documents.
pub fn retention(results: &Results) -> Result<String, String> {
    let mut lines = Vec::new();
    for (arm, runs) in results {
        let Some(run) = runs.first() else { continue };
        let of = run.retention["means"][0]["kept"][1].as_f64().unwrap_or(1.0);
        let kinds = rises(&run.retention).into_keys();
        let mut points: Vec<(f64, f64)> = kinds
            .filter(|kind| kind.method == "layerwise" && kind.documents == 5)
            .filter_map(|kind| Some((100.0 * kind.kept as f64 / of, 100.0 * rise(runs, &kind)?.mean)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !points.is_empty() {
            lines.push((arm.name, points));
        }
    }
    let mut svg = String::new();
    draw(&mut svg, &lines).map_err(|error| format!("experiment.svg: {error}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, lines: &[(&str, Vec<(f64, f64)>)]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, (860, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let fewest = points().map(|point| point.0).fold(50.0, f64::min);
    let (low, high) =
        points().fold((0.0, 1.0), |(low, high): (f64, f64), point| (low.min(point.1), high.max(point.1)));
    let mut chart = ChartBuilder::on(&root)
        .caption("What is lost when few experts are kept", ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((fewest * 0.9..60.0).log_scale(), low..high * 1.05)?;
    chart
        .configure_mesh()
        .x_desc("experts kept, % (logarithmic)")
        .y_desc("rise of the loss, %")
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|share| format!("{share:.1}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = Palette99::pick(number).to_rgba();
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    root.present()?;
    Ok(())
}
