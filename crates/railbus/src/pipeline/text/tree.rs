//! What the text of a flow says, before any name in it is looked up.

use crate::pipeline::evaluate::Evaluation;
use std::{fmt, ops::Range};

/// Units one after another: `a -> b |-> c`; never empty.
///
/// `Display` writes the canonical text of the flow: two texts that mean the same tree have one,
/// and it reads back as this tree, with other places.
///
/// # Examples
/// ```
/// use railbus::pipeline::{Evaluation, text::{Branch, Group, Link, Named, Sequence, Unit, parse}};
///
/// let flow: Sequence = parse("check(0 -> (mail||log)[any]) |-> ship*3").unwrap();
/// assert_eq!(flow.to_string(), "check(0 -> {mail || log}[any]) |-> ship*3");
/// let [first, Link { piped: true, unit: Unit::Step(ship), .. }] = &flow.links[..] else {
///     panic!("{flow:?}");
/// };
/// let ship: &Named = ship;
/// assert_eq!((&*ship.name, ship.tries, ship.span.clone()), ("ship", Some(3), 33..37));
/// let Unit::Step(check) = &first.unit else { panic!("{first:?}") };
/// let failed: &Branch = &check.branches[0];
/// assert_eq!((&*failed.label, failed.piped), ("0", false));
/// let Unit::Group(group) = &failed.flow.links[0].unit else { panic!("{failed:?}") };
/// let group: &Group = group;
/// assert_eq!((group.members.len(), group.evaluation), (2, Some(Evaluation::Any)));
/// assert_eq!(failed.flow.links[0].unit.span(), 11..27);
/// let names = flow.steps().into_iter().map(|step| step.name.as_str());
/// assert_eq!(names.collect::<Vec<_>>(), ["check", "mail", "log", "ship"]);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// What runs, in order.
    pub links: Vec<Link>,
}

/// A unit of a sequence, with the arrow that leads to it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether the arrow is `|->`, which binds what came out before to this unit's free input.
    ///
    /// False for the first of a sequence; the arrow after a label is in [`Branch::piped`].
    pub piped: bool,
    /// Where the arrow stands in the text, in bytes; empty for the first of a sequence.
    pub arrow: Range<usize>,
    /// What runs.
    pub unit: Unit,
}

/// What runs as one between two arrows.
///
/// A group around a mere sequence, without evaluation and branches, changes nothing: it is not in
/// the tree, its links are.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One step.
    Step(Named),
    /// Several flows side by side, or one that is judged as a whole.
    Group(Group),
}

/// A step that the flow names.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The step's name; a flow names it once.
    pub name: String,
    /// Where the name stands in the text, in bytes.
    pub span: Range<usize>,
    /// The factor of `name*3`: how often it is tried at most, the first time counted; at least 2.
    pub tries: Option<u32>,
    /// What runs after it by its outcome; labels are digits and names, each once.
    pub branches: Vec<Branch>,
}

/// Flows side by side, `a || b`, `{a || {b -> c}}[any]`; or one that is judged as a whole,
/// `{a -> b}(0 -> c)`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The flows, in the order of the text; never empty.
    pub members: Vec<Sequence>,
    /// When the group has succeeded; `None` if the text leaves that open.
    pub evaluation: Option<Evaluation>,
    /// What runs after it by its outcome; labels are `0` and `1`, each once.
    pub branches: Vec<Branch>,
    /// Where it stands in the text, in bytes, with its brackets and without its branches.
    pub span: Range<usize>,
}

/// A branch in parentheses: `0 -> refund`.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// `0` for failure, `1` for success, `2` to `9` or a name for what a step chooses itself.
    pub label: String,
    /// Where the label stands in the text, in bytes.
    pub span: Range<usize>,
    /// Whether the arrow after the label is `|->`.
    pub piped: bool,
    /// What the branch runs.
    pub flow: Sequence,
}

impl Sequence {
    /// Returns every step that the flow names, in the order of the text.
    #[must_use]
    pub fn steps(&self) -> Vec<&Named> {
        let mut found = Vec::new();
        self.each_unit(&mut |unit| {
            if let Unit::Step(step) = unit {
                found.push(step);
            }
        });
        found
    }

    /// Returns every branch of the flow, in the order of the text.
    pub(in crate::pipeline) fn branches(&self) -> Vec<&Branch> {
        let mut found = Vec::new();
        self.each_unit(&mut |unit| found.extend(unit.branches()));
        found
    }

    /// Visits all units, a group before its members, and both before their branches.
    fn each_unit<'a>(&'a self, visit: &mut impl FnMut(&'a Unit)) {
        for Link { unit, .. } in &self.links {
            visit(unit);
            if let Unit::Group(group) = unit {
                group.members.iter().for_each(|member| member.each_unit(visit));
            }
            unit.branches().iter().for_each(|branch| branch.flow.each_unit(visit));
        }
    }
}

impl Unit {
    /// Returns where it stands in the text, in bytes: a step's name, a group with its brackets.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        match self {
            Self::Step(step) => step.span.clone(),
            Self::Group(group) => group.span.clone(),
        }
    }

    /// Returns its branches.
    pub(in crate::pipeline) fn branches(&self) -> &[Branch] {
        match self {
            Self::Step(step) => &step.branches,
            Self::Group(group) => &group.branches,
        }
    }
}

impl Group {
    /// Tells whether it is nothing but its members, which stand without brackets then.
    pub(super) fn is_bare(&self) -> bool {
        self.evaluation.is_none() && self.branches.is_empty()
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, link) in self.links.iter().enumerate() {
            if i > 0 {
                f.write_str(if link.piped { " |-> " } else { " -> " })?;
            }
            write!(f, "{}", link.unit)?;
        }
        Ok(())
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => {
                f.write_str(&step.name)?;
                if let Some(tries) = step.tries {
                    write!(f, "*{tries}")?;
                }
            }
            Self::Group(group) if group.is_bare() => return side_by_side(group, f),
            Self::Group(group) => {
                f.write_str("{")?;
                match &group.members[..] {
                    [only] => write!(f, "{only}")?,
                    _ => side_by_side(group, f)?,
                }
                f.write_str("}")?;
                if let Some(evaluation) = group.evaluation {
                    write!(f, "[{evaluation}]")?;
                }
            }
        }
        for (i, branch) in self.branches().iter().enumerate() {
            let arrow = if branch.piped { "|->" } else { "->" };
            let before = if i == 0 { "(" } else { ", " };
            write!(f, "{before}{} {arrow} {}", branch.label, branch.flow)?;
        }
        f.write_str(if self.branches().is_empty() { "" } else { ")" })
    }
}

fn side_by_side(group: &Group, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, member) in group.members.iter().enumerate() {
        f.write_str(if i == 0 { "" } else { " || " })?;
        match &member.links[..] {
            [Link { unit: Unit::Group(inner), .. }] if inner.is_bare() => {
                write!(f, "{{{member}}}")?;
            }
            [_] => write!(f, "{member}")?,
            _ => write!(f, "{{{member}}}")?,
        }
    }
    Ok(())
}
