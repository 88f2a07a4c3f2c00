//! The plots: the share of runs that were rolled back, by the number of requests.

use plotters::prelude::*;

use crate::{
    figures::Figures,
    rule,
    run::Table,
    world::{Truth, World},
};

/// The worlds with a plot, and the names of their files.
const WORLDS: [(&str, &str); 4] = [
    ("always against 0.1 %", "always"),
    ("10 % against 1 %", "ten-to-one"),
    ("2 % against 1 %", "two-to-one"),
    ("both at 5 %", "alike"),
];

/// Okabe and Ito's colours, which people with any colour vision tell apart ("Color Universal Design", 2008), and grey.
const COLOURS: [RGBColor; 13] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 0, 0),
    RGBColor(150, 30, 30),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(120, 100, 60),
    RGBColor(90, 90, 90),
    RGBColor(170, 170, 170),
    RGBColor(120, 50, 160),
    RGBColor(0, 130, 130),
];

/// Each plot's name below `docs/`, and its SVG.
pub fn files(worlds: &[World], table: &Table) -> Vec<(String, String)> {
    WORLDS
        .iter()
        .map(|(name, file)| {
            let index = worlds.iter().position(|world| world.name == *name);
            let index = index.unwrap_or_else(|| panic!("no world is called {name:?}"));
            let svg = plot(&worlds[index], &table[index]);
            let svg = svg.unwrap_or_else(|error| panic!("{name}: {error}"));
            (format!("pictures/benchmark-{file}.svg"), svg)
        })
        .collect()
}

fn plot(
    world: &World,
    results: &[Option<crate::run::Results>],
) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 480)).into_drawing_area();
        area.fill(&WHITE)?;
        let most = world.requests as f64;
        let title = format!("{}: runs that are rolled back", world.name);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 20))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(52)
            .build_cartesian_2d((1.0..most).log_scale(), 0.0..100.0)?;
        chart
            .configure_mesh()
            .x_desc("requests")
            .y_desc("% of runs")
            .light_line_style(WHITE)
            .label_style(("sans-serif", 14))
            .draw()?;
        for ((entry, results), colour) in rule::ALL.iter().zip(results).zip(COLOURS.iter().cycle()) {
            let Some(results) = results else { continue };
            let figures = Figures::new(Truth::Worse, results);
            let mut points = vec![(1.0, 0.0)];
            let mut share = 0.0;
            for (place, requests) in figures.requests().iter().enumerate() {
                points.push((*requests as f64, share));
                share = 100.0 * (place + 1) as f64 / figures.runs as f64;
                points.push((*requests as f64, share));
            }
            points.push((most, share));
            let style = colour.stroke_width(if entry.name == "canary" { 4 } else { 2 });
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(entry.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .label_font(("sans-serif", 14))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
