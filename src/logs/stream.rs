//! One output stream of one rank: from its pipe to its file, the tail, filters and the screen.
//!
//! - T1: the file first, then the tail, then the console. The file gets the raw bytes.
//! - T2: a rank that is alone and has no prefix reaches the console byte for byte, at once.
//! - T3: else whole lines do. A line that is not finished waits for its end; only where the rank
//!   is alone on a terminal it is shown after [`QUIET`], because it may be a question.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;

use super::file::LogFile;
use super::progress::Bar;
use super::routes::Std;
use super::screen::{Prefix, Screen};
use super::split::{End, Splitter};
use super::tail::Tail;

/// How long an unfinished line may be quiet before it is shown (T3).
pub const QUIET: Duration = Duration::from_millis(200);

/// How the console shows a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Not at all.
    Nothing,
    /// Byte for byte (T2).
    Raw,
    /// Line by line (T3).
    Lines,
}

/// A file of matching lines of all ranks, for one stream.
#[derive(Debug)]
pub struct Filter {
    needles: Vec<Finder<'static>>,
    file: LogFile,
    found: Vec<u8>,
}

impl Filter {
    /// Lines that contain one of `needles` go to `file`.
    pub fn new(needles: &[String], file: LogFile) -> Self {
        let needles = needles.iter().map(|n| Finder::new(n.as_bytes()).into_owned()).collect();
        Self { needles, file, found: Vec::new() }
    }

    /// The file.
    pub fn file(&self) -> &LogFile {
        &self.file
    }

    fn look(&mut self, prefix: &[u8], line: &[u8]) {
        if self.needles.iter().any(|needle| needle.find(line).is_some()) {
            self.found.extend_from_slice(prefix);
            self.found.extend_from_slice(line);
            self.found.push(b'\n');
        }
    }

    fn flush(&mut self, failures: &mut Vec<String>) {
        if !self.found.is_empty() {
            append(&mut self.file, &self.found, failures);
            self.found.clear();
        }
    }
}

/// What a stream needs of its surroundings.
pub struct Surroundings<'a> {
    /// The time.
    pub now: Instant,
    /// Where the stream is shown.
    pub screen: &'a mut Screen,
    /// By local rank.
    pub prefixes: &'a [Prefix],
    /// The filter file of this stream, where it has one.
    pub filter: Option<&'a mut Filter>,
    /// Text for the console about files that failed for the first time.
    pub failures: &'a mut Vec<String>,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    /// Our end of the pipe, until its end.
    pub pipe: Option<File>,
    /// Which stream it is.
    pub std: Std,
    /// The local rank.
    pub index: u32,
    /// Its file.
    pub file: Option<LogFile>,
    /// Its last bytes.
    pub tail: Tail,
    /// How it is shown.
    pub show: Show,
    /// Whether its lines are looked at for the filter file.
    pub filtered: bool,
    /// Whether the pipe is not read for now because the console is full.
    pub parked: bool,
    lines: Lines,
    splitter: Splitter,
}

/// The state of the line that is being printed.
#[derive(Debug)]
struct Lines {
    id: usize,
    index: u32,
    std: Std,
    shown_as: Show,
    on_terminal: bool,
    bar: Bar,
    quiet: Option<Instant>,
    /// Bytes of the unfinished line that are on the screen.
    shown: usize,
}

impl Stream {
    /// `id` tells the attempt's streams apart.
    pub fn new(id: usize, index: u32, std: Std, pipe: File, tail: Tail, show: Show) -> Self {
        let lines = Lines {
            id,
            index,
            std,
            shown_as: show,
            on_terminal: false,
            bar: Bar::default(),
            quiet: None,
            shown: 0,
        };
        Self {
            pipe: Some(pipe),
            std,
            index,
            file: None,
            tail,
            show,
            filtered: false,
            parked: false,
            lines,
            splitter: Splitter::default(),
        }
    }

    /// Takes the next bytes of the rank.
    pub fn take(&mut self, chunk: &[u8], cx: &mut Surroundings<'_>) {
        if let Some(file) = &mut self.file {
            append(file, chunk, cx.failures);
        }
        self.tail.push(chunk);
        if self.show == Show::Raw {
            cx.screen.raw(cx.now, self.index, self.std, chunk);
        }
        if self.show != Show::Lines && !self.filtered {
            return;
        }
        let lines = &mut self.lines;
        lines.on_terminal = cx.screen.is_terminal(self.std);
        self.splitter.feed(chunk, |bytes, end| lines.piece(bytes, end, cx));
        lines.unfinished(&self.splitter, cx);
        if let Some(filter) = &mut cx.filter {
            filter.flush(cx.failures);
        }
    }

    /// The stream has ended: what is unfinished is finished.
    pub fn finish(&mut self, cx: &mut Surroundings<'_>) {
        let lines = &mut self.lines;
        self.splitter.finish(|bytes, end| lines.piece(bytes, end, cx));
        lines.end(cx);
        if let Some(filter) = &mut cx.filter {
            filter.flush(cx.failures);
        }
    }

    /// When [`Stream::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let bar = self.lines.bar.deadline().filter(|_| !self.lines.on_terminal);
        bar.into_iter().chain(self.lines.quiet).min()
    }

    /// Shows a bar's state or an unfinished line whose time has come.
    pub fn tick(&mut self, cx: &mut Surroundings<'_>) {
        let lines = &mut self.lines;
        if !lines.on_terminal
            && let Some(state) = lines.bar.take_due(cx.now)
        {
            cx.screen.line(cx.now, lines.index, cx.prefixes, lines.std, state);
        }
        if lines.quiet.is_some_and(|due| due <= cx.now) {
            lines.quiet = None;
            lines.show_unfinished(self.splitter.partial(), cx);
        }
    }
}

impl Lines {
    fn piece(&mut self, bytes: &[u8], end: End, cx: &mut Surroundings<'_>) {
        if end == End::Return {
            if !bytes.is_empty() {
                self.update(bytes, cx);
            }
            (self.quiet, self.shown) = (None, 0);
            return;
        }
        let mut line = bytes;
        let last_state;
        if !self.bar.is_idle() {
            last_state = self.bar.finish();
            cx.screen.clear_live(self.id);
            // A bare line end after a bar keeps the bar as its line.
            if let (Some(state), true) = (&last_state, bytes.trim_ascii().is_empty()) {
                line = state;
            }
        }
        self.quiet = None;
        let shown = std::mem::take(&mut self.shown);
        if let Some(filter) = &mut cx.filter {
            filter.look(&cx.prefixes[self.index as usize].plain, line);
        }
        if self.shown_as != Show::Lines {
            return;
        }
        if shown > 0 && shown <= line.len() && cx.screen.is_open(self.index, self.std) {
            cx.screen.raw(cx.now, self.index, self.std, &line[shown..]);
            cx.screen.raw(cx.now, self.index, self.std, b"\n");
        } else {
            cx.screen.line(cx.now, self.index, cx.prefixes, self.std, line);
        }
    }

    /// What to do with a line whose end has not come yet.
    fn unfinished(&mut self, splitter: &Splitter, cx: &mut Surroundings<'_>) {
        if self.shown_as != Show::Lines || splitter.partial().is_empty() {
            return;
        }
        if splitter.is_progress() {
            self.update(splitter.partial(), cx);
        } else if cx.prefixes.len() == 1 && self.on_terminal {
            self.quiet = Some(cx.now + QUIET);
        }
    }

    fn update(&mut self, state: &[u8], cx: &mut Surroundings<'_>) {
        if self.shown_as != Show::Lines {
            return;
        }
        self.bar.update(cx.now, state);
        if !self.on_terminal {
            return;
        }
        if self.bar.state().is_empty() {
            cx.screen.clear_live(self.id);
        } else {
            let prefix = &cx.prefixes[self.index as usize].plain;
            cx.screen.live().set(cx.now, self.id, self.std, prefix, self.bar.state());
        }
    }

    fn end(&mut self, cx: &mut Surroundings<'_>) {
        if self.bar.is_idle() {
            return;
        }
        cx.screen.clear_live(self.id);
        if let Some(state) = self.bar.finish() {
            cx.screen.line(cx.now, self.index, cx.prefixes, self.std, &state);
        }
    }

    fn show_unfinished(&mut self, partial: &[u8], cx: &mut Surroundings<'_>) {
        let prefix = &cx.prefixes[self.index as usize].shown[self.std.index()];
        if self.shown > 0 && cx.screen.is_open(self.index, self.std) {
            cx.screen.raw(cx.now, self.index, self.std, &partial[self.shown..]);
        } else {
            cx.screen.partial(cx.now, self.index, self.std, prefix, partial);
        }
        self.shown = partial.len();
    }
}

fn append(file: &mut LogFile, bytes: &[u8], failures: &mut Vec<String>) {
    let reason = file.append(bytes).map(str::to_owned);
    if let Some(reason) = reason {
        let path = file.path().display();
        failures.push(format!("[nvlaunch] cannot write `{path}`: {reason}; the job goes on\n"));
    }
}

/// Reads what a pipe has; `Ok(None)` where it has nothing now.
pub fn read(mut pipe: &File, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match io::Read::read(&mut pipe, buffer) {
            Ok(n) => return Ok(Some(n)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::Arc;

    use super::super::console::Console;
    use super::super::losses::ConsoleLoss;
    use super::super::screen::Traits;
    use super::super::wake::Wake;
    use super::*;

    /// One of two ranks prints `chunks`; gives what the console got, and whether a live line was
    /// still wanted after the last chunk.
    fn run(terminal: bool, chunks: &[&str]) -> (String, bool) {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let wake = Arc::new(Wake::new().expect("an event descriptor"));
        let targets = [Some(File::from(std::os::fd::OwnedFd::from(writer))), None];
        let console = Console::start(targets, wake).expect("a thread");
        let traits = Traits { terminal: [terminal; 2] };
        let mut screen = Screen::new(console, traits, [None, None], None);
        let prefix = |rank| Prefix { plain: vec![], shown: [vec![b'>'], vec![b'>']], rank };
        let prefixes = [prefix(0), prefix(1)];
        let null = File::open("/dev/null").expect("the null device");
        let mut stream = Stream::new(0, 0, Std::Out, null, Tail::new(100), Show::Lines);
        let mut failures = Vec::new();
        let mut cx = Surroundings {
            now: Instant::now(),
            screen: &mut screen,
            prefixes: &prefixes,
            filter: None,
            failures: &mut failures,
        };
        for chunk in chunks {
            stream.take(chunk.as_bytes(), &mut cx);
        }
        let live = cx.screen.deadline().is_some();
        stream.finish(&mut cx);
        let (mut out, mut err) = (ConsoleLoss::default(), ConsoleLoss::default());
        screen.close(Instant::now() + Duration::from_secs(20), [&mut out, &mut err]);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        (text, live)
    }

    #[test]
    fn a_bar_ends_as_one_line_and_leaves_no_live_line() {
        let table: &[(&[&str], &str, bool)] = &[
            (&["\r1%", "\r2%"], ">2%\n", true),
            (&["\r1%", "\r2%\n"], ">2%\n", false),
            (&["1%\r", "2%\r", "\r\n"], ">2%\n", false),
            (&["1%\r2%\r", "done\n"], ">done\n", false),
            (&["\r1%", "\r   \r"], "", false),
            (&["plain\r", "\nnext\n"], ">plain\n>next\n", false),
        ];
        for (chunks, expected, live) in table {
            assert_eq!(run(true, chunks), ((*expected).to_owned(), *live), "{chunks:?}");
            assert_eq!(run(false, chunks), ((*expected).to_owned(), false), "{chunks:?}");
        }
    }
}
