//! Any tree: written in any way it reads as itself, and any text is read or refused, quickly.

use crate::shape;
use railbus::pipeline::text::parse;
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

const TOO_DEEP: &str = "more than 64 brackets within one another";

/// A small random generator, so that a failure can be repeated from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn blank(&mut self) -> &'static str {
        self.one_of(&["", " ", "\n\t", " # -> ( ,\n", ""])
    }
}

/// A flow as text, with brackets and blanks at random, beside the shape it must have.
struct Written {
    text: String,
    shape: String,
}

struct Writer {
    dice: Dice,
    steps: usize,
}

impl Writer {
    fn sequence(&mut self, depth: u64) -> Written {
        let (mut text, mut shape) = (String::new(), String::new());
        for i in 0..=self.dice.below(3) {
            let piped = i > 0 && self.dice.below(2) == 0;
            if i > 0 {
                let (before, after) = (self.dice.blank(), self.dice.blank());
                write!(text, "{before}{}{after}", if piped { "|->" } else { "->" }).unwrap();
                shape.push_str(if piped { " ~" } else { " " });
            }
            let item = self.item(depth);
            // Brackets around an item change nothing.
            match self.dice.below(4) {
                0 if depth > 0 => write!(text, "({})", item.text).unwrap(),
                1 if depth > 0 => write!(text, "{{{}{}}}", self.dice.blank(), item.text).unwrap(),
                _ => text.push_str(&item.text),
            }
            shape.push_str(&item.shape);
        }
        Written { text, shape }
    }

    fn item(&mut self, depth: u64) -> Written {
        match self.dice.below(4) {
            0 if depth > 0 => self.side_by_side(depth - 1),
            1 if depth > 0 => self.judged(depth - 1),
            _ => self.step(depth),
        }
    }

    /// Two or more members, each in brackets unless it is one step.
    fn side_by_side(&mut self, depth: u64) -> Written {
        let members: Vec<_> = (0..2 + self.dice.below(2)).map(|_| self.member(depth)).collect();
        let text: Vec<_> = members.iter().map(|m| m.text.as_str()).collect();
        let shape: Vec<_> = members.iter().map(|m| m.shape.as_str()).collect();
        let sign = format!("{}||{}", self.dice.blank(), self.dice.blank());
        Written { text: text.join(&sign), shape: format!("[{}]", shape.join("; ")) }
    }

    fn member(&mut self, depth: u64) -> Written {
        if self.dice.below(2) == 0 {
            return self.step(depth);
        }
        let inner = self.sequence(depth);
        Written { text: format!("{{{}}}", inner.text), shape: inner.shape }
    }

    /// A group with an evaluation, with branches, or with both.
    fn judged(&mut self, depth: u64) -> Written {
        let inner = self.side_by_side(depth);
        let (mut text, mut shape) = (format!("({})", inner.text), inner.shape);
        let both = self.dice.below(3);
        if both != 0 {
            let evaluation = self.dice.one_of(&["all", "any", "majority", "at_least(2)"]);
            write!(text, "{}[{evaluation}]", self.dice.blank()).unwrap();
            write!(shape, "@{evaluation}").unwrap();
        }
        if both != 1 {
            let (list, listed) = self.branches(&["0", "1"], depth);
            text.push_str(&list);
            shape.push_str(&listed);
        }
        Written { text, shape }
    }

    fn step(&mut self, depth: u64) -> Written {
        self.steps += 1;
        let name = format!("{}{}", self.dice.one_of(&["a", "_", "x-", "B_"]), self.steps);
        let factor = 2 + self.dice.below(9);
        let mut text = match self.dice.below(4) {
            0 => format!("{factor}{}*{name}", self.dice.blank()),
            1 => format!("{name}{}*{factor}", self.dice.blank()),
            _ => name.clone(),
        };
        let mut shape = name.clone();
        if text.len() > name.len() {
            write!(shape, "^{factor}").unwrap();
        }
        if depth > 0 && self.dice.below(4) == 0 {
            let (list, listed) = self.branches(&["0", "1", "7", "label", "l-2"], depth - 1);
            text.push_str(&list);
            shape.push_str(&listed);
        }
        Written { text, shape }
    }

    fn branches(&mut self, labels: &[&str], depth: u64) -> (String, String) {
        let count = 1 + self.dice.below(labels.len() as u64) as usize;
        let (mut texts, mut shapes) = (Vec::new(), Vec::new());
        for label in &labels[..count] {
            let piped = self.dice.below(2) == 0;
            let flow = self.sequence(depth);
            let (arrow, mark) = if piped { ("|->", "~") } else { ("->", "") };
            texts.push(format!("{label}{}{arrow} {}", self.dice.blank(), flow.text));
            shapes.push(format!("{label}:{mark}{}", flow.shape));
        }
        (format!("{}({})", self.dice.blank(), texts.join(",")), format!("<{}>", shapes.join("; ")))
    }
}

#[test]
fn any_flow_reads_as_what_it_is_and_so_does_its_canonical_text() {
    let mut longest = 0;
    for seed in 1..=3000 {
        let mut writer = Writer { dice: Dice(seed), steps: 0 };
        let Written { text, shape: expected } = writer.sequence(seed % 5);
        let flow = parse(&text).unwrap_or_else(|e| panic!("{seed}: {e}\n{text}"));
        assert_eq!(shape(&flow), expected, "seed {seed}: {text}");
        assert_eq!(flow.steps().len(), writer.steps, "seed {seed}");
        let canonical = flow.to_string();
        let again = parse(&canonical).unwrap_or_else(|e| panic!("{seed}: {e}\n{canonical}"));
        assert_eq!(shape(&again), expected, "seed {seed}: {canonical}");
        assert_eq!(again.to_string(), canonical, "seed {seed}");
        longest = longest.max(writer.steps);
    }
    assert!(longest > 50, "the flows are small: {longest} steps at most");
}

#[test]
fn no_text_makes_the_flow_parser_panic() {
    let parts = [
        "a", "b", "-", ">", "->", "|", "|->", "||", " ", "ü", "0", "12", "*", "(", ")", "{", "}",
        "[", "]", "any", ",", "\u{feff}", "→", "_", "\n", "#", "@", "at_least",
    ];
    let mut dice = Dice(1);
    let mut read = 0;
    for n in 0..60_000_u64 {
        let length = 1 + n % 12;
        let text: String = (0..length).map(|_| dice.one_of(&parts)).collect();
        match parse(&text) {
            Ok(flow) => {
                read += 1;
                assert_eq!(shape(&parse(&flow.to_string()).unwrap()), shape(&flow), "{text:?}");
            }
            Err(error) => {
                assert!(text.get(error.span.clone()).is_some(), "{text:?}: {error}");
                let also = error.also.as_ref().map_or(0..0, |(span, _)| span.clone());
                assert!(text.get(also).is_some(), "{text:?}: {error}");
                assert!(error.show(&text).contains('^'), "{text:?}: {error}");
            }
        }
    }
    assert!(read > 300, "only {read} of the texts were flows");
}

#[test]
fn brackets_nest_64_deep() {
    let nested = |depth: usize| format!("{}a{}", "{".repeat(depth), "}".repeat(depth));
    assert_eq!(shape(&parse(&nested(64)).unwrap()), "a");
    for depth in [65, 10_000, 500_000] {
        let error = parse(&nested(depth)).unwrap_err();
        assert_eq!((error.span, &*error.message), (64..65, TOO_DEEP));
    }
    let branches = |depth: usize| {
        let open: String = (0..depth).map(|i| format!("s{i}(0->")).collect();
        format!("{open}z{}", ")".repeat(depth))
    };
    assert_eq!(parse(&branches(64)).unwrap().steps().len(), 65);
    let error = parse(&branches(65)).unwrap_err();
    assert_eq!((&branches(65)[error.span], error.message.as_str()), ("(", TOO_DEEP));
    let judged = format!("{}{{a||b}}[at_least(2)]{}", "{".repeat(63), "}".repeat(63));
    assert_eq!(shape(&parse(&judged).unwrap()), "[a; b]@at_least(2)");
}

/// Makes a text of about so many bytes out of numbered parts.
fn long(bytes: usize, between: &str, part: impl Fn(usize) -> String) -> String {
    let mut text = part(0);
    for i in 1.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(between);
        text.push_str(&part(i));
    }
    text
}

#[test]
fn a_text_32_times_as_long_takes_no_more_than_linear_time() {
    type Make = fn(usize) -> String;
    let texts: [(&str, Make); 9] = [
        ("a line", |n| long(n, "->", |i| format!("s{i}"))),
        // Without an arrow anywhere.
        ("side by side", |n| long(n, "||", |i| format!("s{i}"))),
        ("branches", |n| format!("a({})", long(n, ",", |i| format!("l{i}->s{i}")))),
        ("groups", |n| long(n, "->", |i| format!("{{a{i}||b{i}}}[any]"))),
        ("a name", |n| "n".repeat(n)),
        ("a number", |n| "1".repeat(n)),
        ("comments", |n| "#\n".repeat(n / 2)),
        ("open brackets", |n| "(".repeat(n)),
        ("a mistake at the end", |n| format!("{} ;", long(n, " -> ", |i| format!("s{i}")))),
    ];
    for (what, make) in texts {
        let time = |text: &str| -> Duration {
            let read = || {
                let start = Instant::now();
                if let Err(error) = parse(text) {
                    assert!(error.show(text).len() < 1000, "{what}");
                    assert!(error.message.len() < 200, "{what}: {}", error.message.len());
                }
                start.elapsed()
            };
            (0..3).map(|_| read()).min().unwrap_or_default()
        };
        let (short, long) = (time(&make(1 << 15)), time(&make(1 << 20)));
        // Linear is 32 and quadratic 1024; what is too short to be timed may be anything.
        let bound = short.max(Duration::from_micros(20)) * 200;
        assert!(long < bound, "{what}: {short:?} for 32 KiB, {long:?} for 1 MiB");
    }
}
