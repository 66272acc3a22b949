//! The chart: throughput of a few rows, as bars.

use std::path::Path;

use plotters::prelude::*;

use crate::report::{Outcome, Pass};

const WIDTH: i32 = 820;
/// Where bars begin, and the longest they may get.
const LEFT: i32 = 230;
const LENGTH: i32 = 400;
const BAR: i32 = 16;
const GAP: i32 = 22;
const TOP: i32 = 50;

/// Draws the rows, in GB/s of what is read and written in repeated passes.
pub fn draw(path: &Path, outcomes: &[&Outcome], threads: usize) {
    let groups: Vec<_> = outcomes.iter().map(|outcome| (*outcome, bars(outcome, threads))).collect();
    let count: i32 = groups.iter().map(|(_, bars)| bars.len() as i32 * BAR + GAP).sum();
    let most = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);

    let root = SVGBackend::new(path, (WIDTH as u32, (TOP + count) as u32)).into_drawing_area();
    root.fill(&WHITE).unwrap();
    let write = |text: &str, x: i32, y: i32, size: i32| {
        let text = Text::new(text.to_owned(), (x, y), ("sans-serif", size).into_font().color(&BLACK));
        root.draw(&text).unwrap();
    };
    write("GB/s read and written, files in memory, repeated passes: longer is faster", 16, 14, 18);
    let mut y = TOP;
    for (outcome, bars) in groups {
        write(&outcome.name, 16, y + 1, 16);
        for (name, speed, color) in bars {
            let end = LEFT + (speed / most * f64::from(LENGTH)).max(1.0) as i32;
            root.draw(&Rectangle::new([(LEFT, y + 1), (end, y + BAR - 1)], color.filled())).unwrap();
            write(&format!("{speed:.1}  {name}"), end + 6, y + 2, 15);
            y += BAR;
        }
        y += GAP;
    }
    root.present().unwrap();
}

fn bars(outcome: &Outcome, threads: usize) -> Vec<(String, f64, RGBColor)> {
    let duel = |threads| outcome.duel(Pass::Again, threads).expect("these rows have all numbers of threads");
    let (one, all) = (duel(1), duel(threads));
    let speed = |seconds: f64| outcome.bytes as f64 / seconds / 1e9;
    let many = format!("{threads} threads");
    let mut bars = vec![(format!("this crate, {many}"), speed(all.ours), RGBColor(31, 96, 168))];
    bars.push(("this crate, 1 thread".to_owned(), speed(one.ours), RGBColor(110, 164, 216)));
    let python = all.python.filter(|python| all.other.as_ref().is_some_and(|other| other.name != python.name));
    let others = all.other.into_iter().chain(python);
    bars.extend(others.map(|other| (other.name.to_owned(), speed(other.time), RGBColor(222, 132, 60))));
    bars.extend(all.limit.map(|limit| (format!("limit, {many}"), speed(limit), RGBColor(190, 190, 190))));
    bars
}
