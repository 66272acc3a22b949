//! Measures contestants in turn, round by round, in one run: on a shared machine only such ratios are meaningful.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Something to be measured: does its work `n` times and returns how long that took.
pub struct Contestant<'a> {
    name: String,
    run: Box<dyn FnMut(u32) -> Duration + 'a>,
}

impl<'a> Contestant<'a> {
    /// A closure of this process.
    pub fn new<T>(name: &str, mut work: impl FnMut() -> T + 'a) -> Self {
        let run = move |n| {
            let start = Instant::now();
            for _ in 0..n {
                std::hint::black_box(work());
            }
            start.elapsed()
        };
        Self { name: name.to_owned(), run: Box::new(run) }
    }

    /// A contestant that measures its time itself: another process, or one that also does work that does not count.
    #[allow(dead_code)] // Not every bench needs it.
    pub fn timed(name: &str, mut work: impl FnMut() -> Duration + 'a) -> Self {
        Self { name: name.to_owned(), run: Box::new(move |n| (0..n).map(|_| work()).sum()) }
    }

    /// The same contestant, with preparations before each round that are not measured.
    #[allow(dead_code)] // As above.
    pub fn after(self, mut prepare: impl FnMut() + 'a) -> Self {
        let Self { name, mut run } = self;
        let run = move |n| {
            prepare();
            run(n)
        };
        Self { name, run: Box::new(run) }
    }

    /// Does its work once.
    #[allow(dead_code)] // As above.
    pub fn once(mut self) {
        (self.run)(1);
    }
}

/// Measures every contestant once a round, and prints medians, their ratios to the first one's, and the best.
pub fn compare(title: &str, rounds: usize, repeat: u32, contestants: Vec<Contestant<'_>>) {
    let mut contestants = contestants;
    let mut times = vec![Vec::with_capacity(rounds); contestants.len()];
    for contestant in &mut contestants {
        (contestant.run)(repeat.div_ceil(10));
    }
    for _ in 0..rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            times.push((contestant.run)(repeat).as_secs_f64() / f64::from(repeat));
        }
    }
    println!("\n{title} (medians of {rounds} rounds, each of {repeat})");
    // The median of the rounds' ratios, not the ratio of the medians: a disturbance slows both times of a round.
    let first = times[0].clone();
    for (contestant, times) in contestants.iter().zip(times) {
        let ratios = times.iter().zip(&first).map(|(t, f)| t / f).collect();
        let best = times.iter().copied().fold(f64::INFINITY, f64::min);
        let (middle, best, ratio) = (human(median(times)), human(best), median(ratios));
        println!("  {:<44} {middle:>12}   {ratio:>8.2}x   (best {best})", contestant.name);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn human(seconds: f64) -> String {
    match seconds {
        s if s < 1e-6 => format!("{:.1} ns", s * 1e9),
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// A Python process that takes part in all rounds.
pub struct NumPy {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl NumPy {
    /// `None`, with a message, if there is no Python with NumPy. `PYTHON` names another interpreter.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| ())
    }

    /// Like [`start`](Self::start); `prepare` configures the process before it is started.
    pub fn start_with(prepare: impl FnOnce(&mut Command)) -> Option<Self> {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/side_by_side/numpy_peer.py");
        let mut command = Command::new(&python);
        prepare(command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()));
        let mut child = command.spawn().ok()?;
        let (input, output) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut peer = Self { child, input, output };
        let greeting = peer.line();
        if greeting.starts_with("numpy ") {
            println!("with {}", greeting.trim());
            Some(peer)
        } else {
            println!("{python} has no NumPy: it does not take part");
            None
        }
    }

    /// A Python expression over `np`, `path` and `kept`, a dict that persists between calls.
    pub fn contestant<'a>(&'a mut self, name: &str, path: PathBuf, expression: &'a str) -> Contestant<'a> {
        let run = move |n| {
            writeln!(self.input, "{n}\t{}\t{expression}", path.display()).expect("NumPy listens");
            let answer = self.line();
            Duration::from_secs_f64(answer.trim().parse().unwrap_or_else(|_| panic!("NumPy said {answer:?}")))
        };
        Contestant { name: name.to_owned(), run: Box::new(run) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("NumPy speaks UTF-8");
        line
    }
}

impl Drop for NumPy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
