//! A place in a text as it is shown: its line, with marks below.

use std::ops::Range;
use unicode_width::UnicodeWidthChar;

/// How many columns of a line are shown; a longer one is cut around the place.
const WIDTH: usize = 100;

/// How many columns of a long line are kept before the place.
const BEFORE: usize = 40;

/// A line of a text, cut to what fits, and where in it the marks go.
#[derive(Debug, PartialEq)]
pub(crate) struct Excerpt {
    number: usize,
    text: String,
    // What stands below the text before the marks: blanks as wide, and its tabs.
    before: String,
    // The columns it covers; never none.
    marks: usize,
}

impl Excerpt {
    /// Takes the line of `text` in which `span` begins; a place that is not in this text is shown
    /// at the nearest one that is.
    pub(crate) fn of(text: &str, span: &Range<usize>) -> Self {
        let at = text.floor_char_boundary(span.start.min(text.len()));
        let before = &text[..at];
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let stop = text.floor_char_boundary(span.end.clamp(at, text.len())).min(start + line.len());
        let marked = text.get(at..stop).map_or(0, |part| part.chars().count());
        let from = text[start..at].chars().count();
        Self::cut(number, &line.chars().map(cell).collect::<Vec<_>>(), from..from + marked)
    }

    fn cut(number: usize, cells: &[(char, usize)], marked: Range<usize>) -> Self {
        let width = |cells: &[(char, usize)]| cells.iter().map(|(_, width)| width).sum::<usize>();
        let part = |range: Range<usize>| cells.get(range).unwrap_or_default();
        let (all, head) = (width(cells), width(part(0..marked.start)));
        // The end of a line is shown as wide as its middle.
        let cut = head.saturating_sub(BEFORE).min(all.saturating_sub(WIDTH));
        let (from, dropped) = reach(cells, cut, usize::MAX);
        let (to, _) = reach(&cells[from..], usize::MAX, WIDTH);
        let to = from + to;
        let mut text: String = if dropped > 0 { "…".into() } else { String::new() };
        let blank = |cell: &(char, usize)| match cell {
            ('\t', _) => "\t".into(),
            (_, width) => " ".repeat(*width),
        };
        let mut before = " ".repeat(usize::from(dropped > 0));
        before.extend(part(from..marked.start.min(cells.len())).iter().map(blank));
        // Columns past the end of the line, where something is missing, have no characters.
        before.push_str(&" ".repeat(marked.start.saturating_sub(cells.len())));
        text.extend(cells[from..to].iter().map(|(c, _)| c));
        text.push_str(if to < cells.len() { "…" } else { "" });
        let marks = width(part(marked.start..marked.end.min(to))).max(1);
        Self { number, text, before, marks }
    }

    /// Tells whether another place is in this line, so that the line need not be shown again.
    pub(crate) fn is_line_of(&self, other: &Self) -> bool {
        (self.number, &self.text) == (other.number, &other.text)
    }

    /// Returns how wide the number of the line is.
    pub(crate) fn digits(&self) -> usize {
        self.number.to_string().len()
    }

    /// Returns the line, behind its number in a gutter of that width.
    pub(crate) fn line(&self, gutter: usize) -> String {
        format!("{:>gutter$} | {}", self.number, self.text).trim_end().into()
    }

    /// Returns the line of marks below, which begins with a newline, and `why` beside them.
    pub(crate) fn marks(&self, gutter: usize, mark: &str, why: &str) -> String {
        let marks = mark.repeat(self.marks);
        format!("\n{:gutter$} | {}{marks} {why}", "", self.before).trim_end().into()
    }
}

/// Counts the characters that are at least `least` wide together, or `most` at most, whichever are
/// fewer; returns their number and their width.
fn reach(cells: &[(char, usize)], least: usize, most: usize) -> (usize, usize) {
    let (mut count, mut wide) = (0, 0);
    for (_, width) in cells {
        if wide >= least || wide + width > most {
            break;
        }
        (count, wide) = (count + 1, wide + width);
    }
    (count, wide)
}

/// Returns a character as it is shown, and how many columns it takes. What can't be seen, or would
/// move what stands beside it, is shown as `�`.
fn cell(c: char) -> (char, usize) {
    match c {
        '\t' => ('\t', 1),
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => ('\u{fffd}', 1),
        c => c.width().map_or(('\u{fffd}', 1), |width| (c, width)),
    }
}

#[cfg(test)]
mod tests {
    use super::Excerpt;

    fn drawn(text: &str, part: &str) -> String {
        let start = text.find(part).unwrap_or(text.len());
        let excerpt = Excerpt::of(text, &(start..start + part.len()));
        excerpt.line(1) + &excerpt.marks(1, "^", "")
    }

    #[test]
    fn marks_are_as_wide_as_what_stands_above_them() {
        assert_eq!(drawn("a \u{6f22}\u{5b57} b", "\u{6f22}\u{5b57}"), "1 | a 漢字 b\n  |   ^^^^");
        assert_eq!(drawn("\u{3000}a \u{1f680} b", "b"), "1 | \u{3000}a 🚀 b\n  |        ^");
        // An accent of its own takes no column.
        assert_eq!(drawn("e\u{301} -> b", "->"), "1 | e\u{301} -> b\n  |   ^^");
        assert_eq!(drawn("e\u{301}b", "\u{301}"), "1 | e\u{301}b\n  |  ^");
    }

    #[test]
    fn what_can_not_be_seen_is_shown_and_what_would_turn_text_around_does_not() {
        assert_eq!(drawn("a\0b", "\0"), "1 | a\u{fffd}b\n  |  ^");
        assert_eq!(drawn("a\u{202e}b", "b"), "1 | a\u{fffd}b\n  |   ^");
        assert_eq!(drawn("\u{feff}a", "\u{feff}"), "1 | \u{fffd}a\n  | ^");
        // A family is three people and what joins them.
        assert_eq!(drawn("👩\u{200d}👧 b", "b"), "1 | 👩\u{fffd}👧 b\n  |       ^");
    }

    #[test]
    fn a_long_line_is_cut_by_its_width() {
        let text = format!("{}x{}", "漢".repeat(200), "字".repeat(200));
        let shown = drawn(&text, "x");
        let [line, marks] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        assert_eq!(line, format!("1 | …{}x{}…", "漢".repeat(20), "字".repeat(29)));
        assert_eq!(marks, format!("  | {}^", " ".repeat(41)));
    }
}
