//! What each evaluation makes of the flags of a group.

use railbus::{
    ErrorKind,
    pipeline::Evaluation::{self, All, Any, AtLeast, Majority, NoneFailed, NotAllFailed, Percent},
};

/// How many of how many succeeded, as in the rows below.
const COUNTS: [(usize, usize); 8] =
    [(2, 2), (1, 2), (0, 2), (0, 0), (1, 1), (0, 1), (2, 3), (1, 3)];

#[test]
fn a_group_is_judged_by_the_flags_of_its_members() {
    let (y, n) = (true, false);
    // The four of the document: behaviour file, section 2.2, read over flags; then section 7.
    let rows = [
        (All, [y, n, n, n, y, n, n, n]),
        (NoneFailed, [y, n, n, y, y, n, n, n]),
        (Any, [y, y, n, n, y, n, y, y]),
        (NotAllFailed, [y, y, n, y, y, n, y, y]),
        (AtLeast(0), [y, y, y, y, y, y, y, y]),
        (AtLeast(1), [y, y, n, n, y, n, y, y]),
        (AtLeast(2), [y, n, n, n, n, n, y, n]),
        (Percent(0), [y, y, y, y, y, y, y, y]),
        (Percent(33), [y, y, n, n, y, n, y, y]),
        (Percent(34), [y, y, n, n, y, n, y, n]),
        (Percent(50), [y, y, n, n, y, n, y, n]),
        (Percent(51), [y, n, n, n, y, n, y, n]),
        (Percent(67), [y, n, n, n, y, n, n, n]),
        (Percent(100), [y, n, n, n, y, n, n, n]),
        (Majority, [y, n, n, n, y, n, y, n]),
    ];
    for (evaluation, expected) in rows {
        for ((succeeded, total), expected) in COUNTS.into_iter().zip(expected) {
            let found = evaluation.succeeds(succeeded, total);
            assert_eq!(found, expected, "{evaluation}: {succeeded} of {total}");
        }
    }
    assert_eq!(Evaluation::default(), All);
}

#[test]
fn percent_of_a_huge_group_does_not_overflow() {
    assert!(Percent(100).succeeds(usize::MAX, usize::MAX));
    assert!(!Percent(100).succeeds(usize::MAX - 1, usize::MAX));
    assert!(Majority.succeeds(usize::MAX, usize::MAX));
}

#[test]
fn a_group_is_given_up_exactly_when_no_rest_could_save_it() {
    let all = [All, NoneFailed, Any, NotAllFailed, AtLeast(0), AtLeast(2), Percent(50), Majority];
    for evaluation in all {
        for total in 0..6 {
            for failed in 0..=total {
                let saved = (0..=total - failed).any(|good| evaluation.succeeds(good, total));
                let given_up = evaluation.impossible(failed, total);
                assert_eq!(given_up, !saved, "{evaluation}: {failed} of {total} failed");
            }
        }
    }
    assert!(All.impossible(1, 2) && NoneFailed.impossible(1, 2));
    assert!(!Any.impossible(1, 2) && !NotAllFailed.impossible(1, 2));
}

#[test]
fn an_evaluation_reads_back_from_its_text() {
    let texts = ["all", "none_failed", "any", "not_all_failed", "at_least(2)", "majority"];
    for text in texts.into_iter().chain(["percent(1)", "percent(100)", "at_least(4294967295)"]) {
        let evaluation: Evaluation = text.parse().unwrap();
        assert_eq!(evaluation.to_string(), text);
    }
    assert_eq!(" percent( 50 ) ".parse::<Evaluation>().unwrap(), Percent(50));
}

#[test]
fn a_text_that_is_no_evaluation_is_refused_with_what_to_write() {
    let cases = [
        ("", "there is no evaluation ``", "known: all, none_failed"),
        ("anny", "there is no evaluation `anny`", "did you mean `any`? known: all"),
        ("ALL", "there is no evaluation `ALL`", "known: all"),
        ("at_least", "`at_least` needs a number", "write at_least(2)"),
        ("percent", "`percent` needs a number", "write percent(50)"),
        ("percent(0)", "`percent(0)` is out of range", "from 1 to 100"),
        ("percent(101)", "`percent(101)` is out of range", "from 1 to 100"),
        ("any(1)", "`any` takes no number", "write any"),
        ("at_least(-1)", "`at_least(-1)` is not an evaluation", "known: all"),
        ("at_least(+1)", "`at_least(+1)` is not an evaluation", "known: all"),
        ("at_least()", "`at_least()` is not an evaluation", "known: all"),
        ("at_least(4294967296)", "`at_least(4294967296)` is not an evaluation", "known: all"),
        ("at_least(2", "`at_least(2` is not an evaluation", "known: all"),
    ];
    for (text, message, hint) in cases {
        let error = text.parse::<Evaluation>().unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Config, message), "{text:?}");
        assert!(error.advice().is_some_and(|a| a.contains(hint)), "{text:?}: {error:?}");
    }
}
