//! The name of the file of an event that a group has not settled.

/// What the name says: which event, how often it was changed, from when on it may be
/// leased, and whether it is leased until then. The letter it was handed back from, if any, follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) number: u64,
    pub(crate) letter: String,
    pub(crate) changed: u64,
    pub(crate) due: u64,
    pub(crate) held: bool,
}

impl Name {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, letter: String::new(), changed: 0, due: 0, held: false }
    }

    pub(crate) fn text(&self) -> String {
        let Self { number, letter, changed, due, held } = self;
        format!("{number:020}.{changed:010}.{due:020}.{}.{letter}", u8::from(*held))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '.');
        let mut part = || parts.next();
        Some(Self {
            number: part()?.parse().ok()?,
            changed: part()?.parse().ok()?,
            due: part()?.parse().ok()?,
            held: part()? == "1",
            letter: part()?.to_owned(),
        })
    }
}
