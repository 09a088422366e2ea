//! A flow is read, with its places, and its canonical text reads as the same flow; or it is refused
//! with places inside the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use railbus::pipeline::text::{Sequence, Unit, parse};

fuzz_target!(|text: &str| match parse(text) {
    Ok(flow) => {
        let steps = flow.steps();
        steps.iter().for_each(|step| assert_eq!(&text[step.span.clone()], step.name));
        let canonical = flow.to_string();
        let Ok(again) = parse(&canonical) else { panic!("{canonical} is not read") };
        assert_eq!(again.to_string(), canonical);
        assert!(alike(&flow, &again), "{text} is not {canonical}");
    }
    Err(error) => {
        assert!(error.span.end <= text.len() && text.get(error.span.clone()).is_some());
        let also = error.also.as_ref().map_or(0..0, |(span, _)| span.clone());
        assert!(text.get(also).is_some() && !error.hint.is_empty());
        assert!(error.show(text).contains('^'));
    }
});

/// Compares all but the places.
fn alike(a: &Sequence, b: &Sequence) -> bool {
    a.links.len() == b.links.len()
        && a.links.iter().zip(&b.links).all(|(a, b)| a.piped == b.piped && units(&a.unit, &b.unit))
}

fn units(a: &Unit, b: &Unit) -> bool {
    let branches = match (a, b) {
        (Unit::Step(a), Unit::Step(b)) if (&a.name, a.tries) == (&b.name, b.tries) => {
            (&a.branches, &b.branches)
        }
        (Unit::Group(a), Unit::Group(b))
            if a.evaluation == b.evaluation
                && a.members.len() == b.members.len()
                && a.members.iter().zip(&b.members).all(|(a, b)| alike(a, b)) =>
        {
            (&a.branches, &b.branches)
        }
        _ => return false,
    };
    branches.0.len() == branches.1.len()
        && branches
            .0
            .iter()
            .zip(branches.1)
            .all(|(a, b)| (&a.label, a.piped) == (&b.label, b.piped) && alike(&a.flow, &b.flow))
}
