//! The chart: what the callers got above what the backends had to bear, over the same time.

use std::fmt;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::lanes::Lane;
use crate::report::LaneReport;
use crate::script::{Phase, SLOT, Script};
use crate::stats::{DEADLINE, Slot};

const SIZE: (u32, u32) = (1200, 840);
const HEADER: i32 = 96;
const FONT: &str = "Helvetica, Arial, sans-serif";

/// About as many points as a line needs to show what happened without showing every single call.
const POINTS: usize = 120;

const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const MUTED: RGBColor = RGBColor(0x6a, 0x72, 0x7b);
const RULE: RGBColor = RGBColor(0xdd, 0xe0, 0xe4);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Panel<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A line to draw: a lane, and its rate at points in time.
type Line = (Lane, Vec<(f64, f64)>);

/// The chart as SVG text.
pub(crate) fn draw(script: &Script, lanes: &[LaneReport]) -> Result<String, String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&root, script, lanes).map_err(cannot_draw)?;
        root.present().map_err(cannot_draw)?;
    }
    Ok(svg)
}

fn cannot_draw(error: impl fmt::Display) -> String {
    format!("cannot draw the chart: {error}")
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_on<'a>(root: &Area<'a>, script: &Script, lanes: &[LaneReport]) -> Drawn<'a> {
    root.fill(&WHITE)?;
    let (header, panels) = root.split_vertically(HEADER);
    draw_header(&header, script)?;

    let slots = lanes.first().map_or(1, |report| report.slots.len());
    let per_point = slots.div_ceil(POINTS).max(4);
    let good = lines(lanes, per_point, |report| good_by_slot(&report.slots));
    let load = lines(lanes, per_point, |report| report.backend_slots.clone());

    let (upper, lower) = panels.split_vertically(panels.relative_to_height(0.5));
    let title = format!(
        "Good answers per second (200 within {} ms)",
        DEADLINE.as_millis()
    );
    draw_panel(&upper, script, &title, &good)?;
    draw_panel(
        &lower,
        script,
        "Requests that reached the backend, per second",
        &load,
    )
}

fn good_by_slot(slots: &[Slot]) -> Vec<u64> {
    slots.iter().map(|slot| slot.good).collect()
}

/// Counts by slot as rates, `per_point` slots to a point.
fn lines(
    lanes: &[LaneReport],
    per_point: usize,
    counts: impl Fn(&LaneReport) -> Vec<u64>,
) -> Vec<Line> {
    let slot = SLOT.as_secs_f64();
    lanes
        .iter()
        .map(|report| {
            let points = counts(report)
                .chunks(per_point)
                .enumerate()
                .map(|(i, chunk)| {
                    let from = (i * per_point) as f64 * slot;
                    let length = chunk.len() as f64 * slot;
                    (
                        from + length / 2.0,
                        chunk.iter().sum::<u64>() as f64 / length,
                    )
                })
                .collect();
            (report.lane, points)
        })
        .collect()
}

/// Colours from the Okabe-Ito palette, which the colour-blind can tell apart too. Lines that
/// coincide still show: the ones drawn first are the widest.
fn style(lane: Lane) -> ShapeStyle {
    let (colour, width) = match lane {
        Lane::Bare => (RGBColor(0xe6, 0x9f, 0x00), 8),
        Lane::Tower => (RGBColor(0xcc, 0x79, 0xa7), 5),
        Lane::Steadfast => (RGBColor(0x00, 0x72, 0xb2), 3),
    };
    colour.stroke_width(width)
}

fn text(size: u32, colour: RGBColor, at: HPos) -> TextStyle<'static> {
    (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(at, VPos::Center))
}

fn bold(size: u32, colour: RGBColor, at: HPos) -> TextStyle<'static> {
    (FONT, size, FontStyle::Bold)
        .into_font()
        .color(&colour)
        .pos(Pos::new(at, VPos::Center))
}

fn draw_header<'a>(header: &Area<'a>, script: &Script) -> Drawn<'a> {
    let title = "One load, three client stacks, and a backend that falls ill";
    header.draw(&Text::new(title, (28, 34), bold(22, INK, HPos::Left)))?;
    let load = format!("{} calls per second in each lane", script.rps());
    header.draw(&Text::new(load, (28, 66), text(15, MUTED, HPos::Left)))?;

    for (x, lane) in [738, 838, 948].into_iter().zip(Lane::ALL) {
        header.draw(&PathElement::new([(x, 66), (x + 30, 66)], style(lane)))?;
        header.draw(&Text::new(
            lane.name(),
            (x + 40, 66),
            text(16, INK, HPos::Left),
        ))?;
    }
    let line = [(1082, 66), (1112, 66)];
    header.draw(&DashedPathElement::new(line, 3, 4, MUTED.stroke_width(1)))?;
    header.draw(&Text::new(
        "offered",
        (1120, 66),
        text(14, MUTED, HPos::Left),
    ))
}

fn draw_panel<'a>(area: &Area<'a>, script: &Script, title: &str, lines: &[Line]) -> Drawn<'a> {
    let length = script.length().as_secs_f64();
    let offered = f64::from(script.rps());
    let highest = lines
        .iter()
        .flat_map(|(_, points)| points)
        .map(|&(_, rate)| rate);
    let top = highest.fold(offered, f64::max) * 1.12;

    area.draw(&Text::new(
        title.to_owned(),
        (28, 14),
        bold(16, INK, HPos::Left),
    ))?;
    let mut panel = ChartBuilder::on(area)
        .margin_top(30)
        .margin_right(28)
        .margin_left(16)
        .margin_bottom(8)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..length, 0.0..top)?;

    draw_phases(&mut panel, script, top)?;
    panel
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RULE)
        .axis_style(MUTED)
        .label_style(text(14, MUTED, HPos::Center))
        .y_labels(5)
        .y_label_formatter(&|rate| format!("{rate:.0}"))
        .x_labels(12)
        .x_label_formatter(&|seconds| format!("{seconds:.0} s"))
        .draw()?;
    let what_is_offered = [(0.0, offered), (length, offered)];
    panel.draw_series(DashedLineSeries::new(
        what_is_offered,
        3,
        4,
        MUTED.stroke_width(1),
    ))?;
    for (lane, points) in lines {
        panel.draw_series(LineSeries::new(points.iter().copied(), style(*lane)))?;
    }
    Ok(())
}

/// Shades every other phase, and names all of them.
fn draw_phases<'a>(panel: &mut Panel<'a, '_>, script: &Script, top: f64) -> Drawn<'a> {
    for phase in Phase::ALL {
        let (from, to) = (
            script.start_of(phase).as_secs_f64(),
            script.end_of(phase).as_secs_f64(),
        );
        if phase as usize % 2 == 1 {
            let shade = RGBColor(0xf2, 0xf4, 0xf6).filled();
            panel.draw_series([Rectangle::new([(from, 0.0), (to, top)], shade)])?;
        }
        let name = text(15, MUTED, HPos::Center);
        panel.draw_series([Text::new(
            phase.name(),
            ((from + to) / 2.0, top * 0.95),
            name,
        )])?;
    }
    Ok(())
}
