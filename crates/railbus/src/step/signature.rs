//! What a step says of itself.

use serde_json::{Map, Value};
use std::any::{TypeId, type_name};

/// What a step needs, what it leaves, and where it may jump to: checked when a pipeline is built.
///
/// # Examples
/// ```
/// use railbus::step::{Need, Signature};
///
/// let sum = Signature::new("Sum").needs::<Vec<i64>>("data").output::<i64>("sum");
/// assert_eq!((sum.name(), sum.output_name()), ("Sum", "sum"));
/// let sum = sum.takes::<i64>("start").state::<String>().goto("review");
/// let optional: Vec<bool> = sum.all_needs().iter().map(|need: &Need| need.optional).collect();
/// assert_eq!((optional, sum.targets()), (vec![false, true], &["review".to_owned()][..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    name: String,
    needs: Vec<Need>,
    output: Option<Output>,
    goto: Vec<String>,
    // Whether it always goes on to what follows: it neither jumps nor takes a branch by a label.
    is_plain: bool,
    // Whether it looks at more than it says it needs.
    whole: bool,
    pub(crate) states: Vec<(TypeId, &'static str)>,
}

/// A value that a step needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Need {
    /// The name, as the step calls it.
    pub name: String,
    /// Whether it may be missing.
    pub optional: bool,
    pub(crate) kind: Kind,
    // The Option of it, which one that may be missing can be had from.
    or: Option<Kind>,
}

impl Need {
    /// Tells whether what was left as a value of this type can be had.
    pub(crate) fn takes(&self, left: Kind) -> bool {
        if left.is_nothing() {
            return self.kind.is_nothing();
        }
        left.fits(self.kind) || self.or.is_some_and(|or| left.fits(or))
    }
}

/// The value that a step leaves: the name it is stored under, and its type.
#[derive(Clone, Debug, PartialEq)]
struct Output {
    name: String,
    kind: Option<Kind>,
}

/// A type, to be compared and told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl Kind {
    pub(crate) fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    /// Tells whether it is, or holds, what can't be encoded.
    pub(crate) fn is_opaque(self) -> bool {
        let opaque = type_name::<super::store::Opaque<()>>();
        self.name.contains(opaque.trim_end_matches("()>"))
    }

    /// Tells whether it is the type of nothing.
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::of::<()>()
    }

    /// Tells whether a value of this type can be had as one of another: it is one, or one of the
    /// two is JSON, whose shape only the value knows.
    pub(crate) fn fits(self, other: Self) -> bool {
        let json =
            |kind: Self| kind == Self::of::<Value>() || kind == Self::of::<Map<String, Value>>();
        self.id == other.id || json(self) || json(other)
    }
}

impl Signature {
    /// Starts the signature of a step of that name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a value that it needs, as a `T`.
    #[must_use]
    pub fn needs<T: 'static>(mut self, name: impl Into<String>) -> Self {
        let (name, kind) = (name.into(), Kind::of::<T>());
        self.needs.push(Need { name, optional: false, kind, or: None });
        self
    }

    /// Adds a value that it takes if it is there: left as a `T` or as an `Option<T>`.
    #[must_use]
    pub fn takes<T: 'static>(mut self, name: impl Into<String>) -> Self {
        let (name, kind, or) = (name.into(), Kind::of::<T>(), Some(Kind::of::<Option<T>>()));
        self.needs.push(Need { name, optional: true, kind, or });
        self
    }

    /// Says under which name and as what it leaves its value (default: its own name, of any type).
    #[must_use]
    pub fn output<T: 'static>(mut self, name: impl Into<String>) -> Self {
        self.output = Some(Output { name: name.into(), kind: Some(Kind::of::<T>()) });
        self
    }

    /// Says under which name it leaves a value whose type is not known before.
    ///
    /// # Examples
    /// ```
    /// let parse = railbus::step::Signature::new("Parse").leaves("document");
    /// assert_eq!(parse.output_name(), "document");
    /// ```
    #[must_use]
    pub fn leaves(mut self, name: impl Into<String>) -> Self {
        self.output = Some(Output { name: name.into(), kind: None });
        self
    }

    /// Adds a step that it may jump to, by [`Flow::goto`](super::Flow::goto).
    #[must_use]
    pub fn goto(mut self, step: impl Into<String>) -> Self {
        self.goto.push(step.into());
        self
    }

    /// Adds a value that it needs, of a type that is known elsewhere, or not at all.
    pub(crate) fn needs_kind(mut self, name: &str, kind: Option<Kind>) -> Self {
        let kind = kind.unwrap_or_else(Kind::of::<Value>);
        self.needs.push(Need { name: name.into(), optional: false, kind, or: None });
        self
    }

    /// Says that it neither jumps nor takes a branch by a label.
    pub(crate) fn plain(mut self) -> Self {
        self.is_plain = true;
        self
    }

    /// Tells whether it may jump or take a branch by a label.
    pub(crate) fn steers(&self) -> bool {
        !self.is_plain
    }

    /// Adds a state that it takes from the pipeline.
    #[must_use]
    pub fn state<T: 'static>(mut self) -> Self {
        self.states.push((TypeId::of::<T>(), type_name::<T>()));
        self
    }

    /// Returns the step's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it needs.
    #[must_use]
    pub fn all_needs(&self) -> &[Need] {
        &self.needs
    }

    /// Returns the name that its value is stored under.
    #[must_use]
    pub fn output_name(&self) -> &str {
        self.output.as_ref().map_or(&self.name, |output| &output.name)
    }

    /// Says that it looks at whatever there is.
    pub(crate) fn whole(mut self) -> Self {
        self.whole = true;
        self
    }

    #[cfg(feature = "processes")]
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(crate) fn has_need(&self, name: &str) -> bool {
        self.needs.iter().any(|need| need.name == name)
    }

    pub(crate) fn output_kind(&self) -> Option<Kind> {
        self.output.as_ref().and_then(|output| output.kind)
    }

    /// Returns the steps it may jump to.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.goto
    }
}
