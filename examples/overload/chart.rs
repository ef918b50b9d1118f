//! A chart of an experiment, as SVG.

use std::fmt;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::experiments::Chart;

const WIDTH: u32 = 1000;
const PLOT: u32 = 420;
const TITLE: i32 = 44;
/// The height of a line of the legend.
const ENTRY: u32 = 24;
const FONT: &str = "Helvetica, Arial, sans-serif";

const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const MUTED: RGBColor = RGBColor(0x6a, 0x72, 0x7b);
const RULE: RGBColor = RGBColor(0xdd, 0xe0, 0xe4);
const SHADE: RGBColor = RGBColor(0xf0, 0xf2, 0xf4);

/// The Okabe-Ito palette without its blues, which the colour-blind can tell apart too, and greys.
const COLOURS: [RGBColor; 9] = [
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xf0, 0xe4, 0x42),
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0x66, 0x66, 0x66),
    RGBColor(0x33, 0x33, 0x33),
    RGBColor(0xbb, 0xbb, 0xbb),
];
/// For ours, and for what we do in part.
const OURS: [RGBColor; 2] = [RGBColor(0x00, 0x72, 0xb2), RGBColor(0x56, 0xb4, 0xe9)];

pub(crate) fn draw(chart: &Chart) -> Result<String, String> {
    let mut svg = String::new();
    draw_to(&mut svg, chart).map_err(cannot_draw)?;
    Ok(svg)
}

fn cannot_draw(error: impl fmt::Display) -> String {
    format!("cannot draw the chart: {error}")
}

/// Lines that are drawn first are the widest, so that those which coincide still show; ours are blue.
fn styles(chart: &Chart) -> Vec<ShapeStyle> {
    let lines = chart.lines.iter().enumerate();
    let style = |(number, (name, _)): (usize, &(String, _))| {
        if name.starts_with("steadfast") {
            let is_all = number + 1 == chart.lines.len();
            return OURS[usize::from(!is_all)].stroke_width(3);
        }
        let width = 8_usize.saturating_sub(number).max(3);
        COLOURS[number % COLOURS.len()].stroke_width(width as u32)
    };
    lines.map(style).collect()
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_to<'a>(svg: &'a mut String, chart: &Chart) -> Drawn<'a> {
    let legend = ENTRY * chart.lines.len() as u32 + 12;
    let root = SVGBackend::with_string(svg, (WIDTH, TITLE as u32 + PLOT + legend));
    let root = root.into_drawing_area();
    root.fill(&WHITE)?;
    let left = |size: u32, colour| {
        let font = (FONT, size).into_font().color(&colour);
        font.pos(Pos::new(HPos::Left, VPos::Center))
    };
    root.draw(&Text::new(chart.title.clone(), (28, 24), left(20, INK)))?;

    let points = || chart.lines.iter().flat_map(|(_, points)| points);
    let right = points().map(|point| point.0).fold(1.0, f64::max);
    let top = 1.08
        * points()
            .map(|point| point.1)
            .fold(f64::MIN_POSITIVE, f64::max);
    let (_, below) = root.split_vertically(TITLE);
    let (plot, legend) = below.split_vertically(PLOT as i32);
    let mut panel = ChartBuilder::on(&plot)
        .margin_right(28)
        .margin_left(16)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    if let Some((from, to)) = chart.trigger {
        panel.draw_series([Rectangle::new([(from, 0.0), (to, top)], SHADE.filled())])?;
    }
    panel
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(MUTED)
        .label_style((FONT, 14).into_font().color(&MUTED))
        .x_desc(chart.x)
        .y_labels(6)
        .y_label_formatter(&|value| {
            if top < 3.0 {
                format!("{value:.1}")
            } else {
                format!("{value:.0}")
            }
        })
        .x_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    let styles = styles(chart);
    for ((_, points), style) in chart.lines.iter().zip(&styles) {
        panel.draw_series(LineSeries::new(points.iter().copied(), *style))?;
    }
    for (number, ((name, _), style)) in chart.lines.iter().zip(&styles).enumerate() {
        let y = (ENTRY * number as u32 + ENTRY / 2) as i32;
        legend.draw(&PathElement::new([(72, y), (108, y)], *style))?;
        legend.draw(&Text::new(name.clone(), (118, y), left(15, INK)))?;
    }
    root.present()
}
