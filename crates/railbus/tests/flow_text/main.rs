//! The flow language: what it means, what it refuses, and how it says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod meaning;
mod mistakes;
mod shown;
mod trees;

use railbus::pipeline::text::{Branch, Sequence, Unit};
use std::fmt::Write;

/// Writes a tree in a form of its own, without places, so that trees are compared and not texts.
fn shape(flow: &Sequence) -> String {
    let link =
        |(piped, unit): (bool, &Unit)| format!("{}{}", if piped { "~" } else { "" }, of(unit));
    let links = flow.links.iter().map(|l| link((l.piped, &l.unit)));
    links.collect::<Vec<_>>().join(" ")
}

fn of(unit: &Unit) -> String {
    let mut text = String::new();
    let branches = match unit {
        Unit::Step(step) => {
            text.push_str(&step.name);
            if let Some(tries) = step.tries {
                write!(text, "^{tries}").unwrap();
            }
            &step.branches
        }
        Unit::Group(group) => {
            let members: Vec<_> = group.members.iter().map(shape).collect();
            write!(text, "[{}]", members.join("; ")).unwrap();
            if let Some(evaluation) = &group.evaluation {
                write!(text, "@{evaluation}").unwrap();
            }
            &group.branches
        }
        other => panic!("{other:?}"),
    };
    if !branches.is_empty() {
        let branches: Vec<_> = branches.iter().map(branch).collect();
        write!(text, "<{}>", branches.join("; ")).unwrap();
    }
    text
}

fn branch(branch: &Branch) -> String {
    format!("{}:{}{}", branch.label, if branch.piped { "~" } else { "" }, shape(&branch.flow))
}
