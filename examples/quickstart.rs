//! Maps a real raster, the geoid heights of the world, and does with it what is usual: looks up heights, converts them,
//! checks the copy, computes statistics, draws a map.
//!
//! ```sh
//! cargo run --release --example quickstart [-- RASTER.gtx [OUTPUT-FOLDER]]
//! ```

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use image::{Rgb, RgbImage};
use ndarray::prelude::*;
use ndarray::{ArrayRef2, Zip};
use ndarray_mmap::{MmapArray, MmapArrayMut};
use rend::{f32_be, f64_be, i32_be};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PLACES: [(&str, f64, f64); 3] =
    [("Reykjavik", 64.15, -21.94), ("New Guinea", -8.25, 147.25), ("south of Sri Lanka", 4.75, 78.75)];

fn main() -> ExitCode {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let raster = arguments.next().unwrap_or_else(|| here.join("examples/data/egm96_15.gtx"));
    let folder = arguments.next().unwrap_or_else(|| here.join("target/quickstart"));
    match run(&raster, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("quickstart: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(raster: &Path, folder: &Path) -> Result<()> {
    let grid = Grid::read_header(raster)?;
    println!("header    {} rows x {} columns of heights, big-endian, in {}", grid.rows, grid.columns, raster.display());

    // SAFETY: no other process or handle changes these bytes of the file while the array lives: nobody edits this data.
    let heights = unsafe {
        MmapArray::<f32_be>::options().offset(Grid::HEADER_BYTES).shape((grid.rows, grid.columns)).open(raster)?
    };
    println!("mapped    {:?} from byte {} on: nothing copied, nothing read ahead", heights.shape(), heights.offset());

    for (name, latitude, longitude) in PLACES {
        if let Some(height) = grid.height_at(&heights, latitude, longitude) {
            println!("read      {height:+8.2} m at {latitude:6.2} N {longitude:7.2} E, {name}");
        }
    }

    fs::create_dir_all(folder).map_err(|e| format!("{}: cannot make the folder: {e}", folder.display()))?;
    let native = folder.join("geoid.f32");
    // SAFETY: no other process or handle changes these bytes of the file while the array lives: it is this program's output.
    let mut converted = unsafe { MmapArrayMut::<f32>::create(&native, heights.raw_dim())? };
    Zip::from(&mut converted).and(&heights).for_each(|to, from| *to = from.to_native());
    converted.flush()?;
    println!("wrote     {} bytes of native f32 to {}", converted.len() * size_of::<f32>(), native.display());
    converted.close()?;

    // SAFETY: as above.
    let copy = unsafe { MmapArray::<f32>::options().shape((grid.rows, grid.columns)).open(&native)? };
    if !Zip::from(&copy).and(&heights).all(|a, b| a.to_bits() == b.to_native().to_bits()) {
        return Err(format!("{}: is not what was written", native.display()).into());
    }
    println!("checked   reopened read-only, every element as in the raster");

    let (lowest, highest) = statistics(&grid, &copy).ok_or("the raster has no heights")?;
    if heights.blocks().min_max().map(|(a, b)| (a.to_native(), b.to_native())) != Some((lowest, highest)) {
        return Err("the raster and its copy have other extremes".into());
    }

    let picture = folder.join("geoid.png");
    let limit = f64::from(lowest.abs().max(highest.abs())).ceil().max(1.0);
    draw(&grid, &copy, limit).save(&picture).map_err(|e| format!("{}: {e}", picture.display()))?;
    println!("drew      {}, -{limit} m (blue) to +{limit} m (red)", picture.display());
    Ok(())
}

/// Where the heights lie on the globe: the header of a `.gtx` file, in degrees.
struct Grid {
    south: f64,
    west: f64,
    row_step: f64,
    column_step: f64,
    rows: usize,
    columns: usize,
}

impl Grid {
    const HEADER_BYTES: u64 = 40;

    /// Reads the header by `load`, an in-memory copy: it is safe, and for a few bytes as fast as mapping.
    fn read_header(path: &Path) -> Result<Self> {
        let numbers = MmapArray::<f64_be>::options().shape(4).load(path)?;
        let counts = MmapArray::<i32_be>::options().offset(32).shape(2).load(path)?;
        let [south, west, row_step, column_step] = [0, 1, 2, 3].map(|i| numbers[i].to_native());
        let sensible = 1e-4..=90.0;
        if !south.is_finite() || !west.is_finite() || !sensible.contains(&row_step) || !sensible.contains(&column_step)
        {
            return Err(format!("{}: has no header of a .gtx raster", path.display()).into());
        }
        let count =
            |i| usize::try_from(counts[i].to_native()).map_err(|_| format!("{}: negative size", path.display()));
        Ok(Self { south, west, row_step, column_step, rows: count(0)?, columns: count(1)? })
    }

    fn latitude(&self, row: usize) -> f64 {
        self.south + row as f64 * self.row_step
    }

    /// Interpolates bilinearly between the four nearest heights; `None` outside the raster.
    fn height_at<A: Copy + Into<f32>>(&self, heights: &ArrayRef2<A>, latitude: f64, longitude: f64) -> Option<f64> {
        let y = (latitude - self.south) / self.row_step;
        let x = (longitude - self.west).rem_euclid(360.0) / self.column_step;
        if y < 0.0 {
            return None;
        }
        let around_the_world = (360.0 / self.column_step).round() as usize;
        let (row, column) = (y as usize, x as usize);
        let (next_row, next_column) = ((row + 1).min(self.rows.saturating_sub(1)), (column + 1) % around_the_world);
        let at = |row, column| heights.get([row, column]).map(|&h| f64::from(h.into()));
        let between = |a: f64, b: f64, t: f64| a + (b - a) * t;
        let lower = between(at(row, column)?, at(row, next_column)?, x.fract());
        let upper = between(at(next_row, column)?, at(next_row, next_column)?, x.fract());
        Some(between(lower, upper, y.fract()))
    }
}

/// Prints the statistics, and returns the lowest and the highest height; `None` if there are no heights.
fn statistics(grid: &Grid, heights: &ArrayRef2<f32>) -> Option<(f32, f32)> {
    let lowest = heights.iter().copied().reduce(f32::min)?;
    let highest = heights.iter().copied().reduce(f32::max)?;
    println!("computed  lowest {lowest:.2} m, highest {highest:.2} m");

    let exact = heights.mapv(f64::from);
    println!("computed  mean {:.3} m, standard deviation {:.3} m, over grid points", exact.mean()?, exact.std(0.0));

    // The meridians meet at the poles, so a row there covers less area.
    let area: Array1<f64> = (0..grid.rows).map(|row| grid.latitude(row).to_radians().cos()).collect();
    println!("computed  mean {:.3} m over the area", exact.mean_axis(Axis(1))?.dot(&area) / area.sum());
    Some((lowest, highest))
}

/// Draws a world map, north up and lit from the north-west, with a graticule of 30 degrees and a scale in metres.
fn draw(grid: &Grid, heights: &ArrayRef2<f32>, limit: f64) -> RgbImage {
    let mut picture = RgbImage::from_pixel(1560, 870, Rgb([255; 3]));

    let (left, top) = (80, 24);
    paint(&mut picture, [left, top, 1441, 721], |x, y| {
        let (latitude, longitude) = (90.0 - f64::from(y) / 4.0, f64::from(x) / 4.0 - 180.0);
        let at = |north, east| grid.height_at(heights, latitude + north, longitude + east);
        let slope = at(0.25, -0.25).zip(at(-0.25, 0.25)).map_or(0.0, |(lit, shaded)| shaded - lit);
        let graticule = if x % 120 == 0 || y % 120 == 0 { 0.75 } else { 1.0 };
        Some(colour(at(0.0, 0.0)? / limit, (1.0 - 0.08 * slope).clamp(0.7, 1.2) * graticule))
    });
    for step in 0..13 {
        write_number(&mut picture, left + 120 * step, top + 734, 30.0 * f64::from(step) - 180.0);
    }
    for step in 0..7 {
        write_number(&mut picture, left / 2, top + 120 * step - 7, 90.0 - 30.0 * f64::from(step));
    }

    let (left, top, half) = (left + 240, top + 780, 480);
    paint(&mut picture, [left, top, 2 * half + 1, 24], |x, _| Some(colour(f64::from(x) / f64::from(half) - 1.0, 1.0)));
    let apart = (limit / 120.0).ceil() * 20.0;
    for value in (-6..=6).map(|tick| f64::from(tick) * apart).filter(|value| value.abs() <= limit) {
        let x = left + ((value / limit + 1.0) * f64::from(half)) as u32;
        paint(&mut picture, [x, top + 24, 1, 8], |_, _| Some(INK));
        write_number(&mut picture, x, top + 38, value);
    }
    picture
}

const INK: Rgb<u8> = Rgb([60, 60, 66]);

/// Paints the part of a rectangle (left, top, width, height) that is in the picture.
fn paint(picture: &mut RgbImage, area: [u32; 4], at: impl Fn(u32, u32) -> Option<Rgb<u8>>) {
    let [left, top, width, height] = area;
    for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
        if let (Some(colour), Some(pixel)) = (at(x, y), picture.get_pixel_mut_checked(left + x, top + y)) {
            *pixel = colour;
        }
    }
}

/// A colour from blue for -1 over nearly white to red for 1.
fn colour(value: f64, light: f64) -> Rgb<u8> {
    const STOPS: [[f64; 3]; 7] = [
        [36.0, 40.0, 104.0],
        [50.0, 108.0, 178.0],
        [140.0, 192.0, 222.0],
        [246.0, 244.0, 236.0],
        [244.0, 182.0, 122.0],
        [208.0, 88.0, 64.0],
        [122.0, 22.0, 48.0],
    ];
    let place = (value.clamp(-1.0, 1.0) + 1.0) * 3.0;
    let stop = (place as usize).min(5);
    let mixed = |i: usize| STOPS[stop][i] + (STOPS[stop + 1][i] - STOPS[stop][i]) * (place - stop as f64);
    Rgb([0, 1, 2].map(|i| (mixed(i) * light) as u8))
}

/// Writes a whole number, centred at `x`, from `y` down: glyphs of three by five dots.
fn write_number(picture: &mut RgbImage, x: u32, y: u32, number: f64) {
    const DIGITS_AND_MINUS: [u16; 11] = [
        0b111_101_101_101_111,
        0b010_110_010_010_111,
        0b111_001_111_100_111,
        0b111_001_111_001_111,
        0b101_101_111_001_001,
        0b111_100_111_001_111,
        0b111_100_111_101_111,
        0b111_001_010_010_010,
        0b111_101_111_101_111,
        0b111_101_111_001_111,
        0b000_000_111_000_000,
    ];
    const DOT: u32 = 3;
    let text = format!("{number:.0}");
    let left = x.saturating_sub(text.len() as u32 * 4 * DOT / 2);
    for (left, character) in (left..).step_by(4 * DOT as usize).zip(text.chars()) {
        let glyph = DIGITS_AND_MINUS[character.to_digit(10).unwrap_or(10) as usize];
        paint(picture, [left, y, 3 * DOT, 5 * DOT], |x, y| {
            (glyph >> (14 - (y / DOT * 3 + x / DOT)) & 1 == 1).then_some(INK)
        });
    }
}
