//! What the language refuses: each mistake with its place, its message and what to do.

use railbus::pipeline::text::{FlowError, parse};

/// Text, the part of it that is marked, message, a part of the hint. The marked part begins at the
/// first `«` and ends at `»`, which are not in the text.
type Case<'a> = (&'a str, &'a str, &'a str);

fn each(cases: &[Case<'_>]) {
    for (marked, message, hint) in cases {
        let start = marked.find('«').unwrap_or_else(|| panic!("no mark in {marked}"));
        let end =
            marked.find('»').unwrap_or_else(|| panic!("no mark in {marked}")) - '«'.len_utf8();
        let text = marked.replace(['«', '»'], "");
        let error = match parse(&text) {
            Err(error) => error,
            Ok(flow) => panic!("{text:?} is read as {flow}"),
        };
        let at = error.span.clone();
        assert_eq!(error.message, *message, "{text:?}");
        assert_eq!(at, start..end, "{text:?}: {message}\n{}", error.show(&text));
        assert!(error.hint.contains(hint), "{text:?}: {}", error.hint);
        assert!(!error.hint.is_empty());
    }
}

#[test]
fn every_text_that_the_document_refuses_is_refused_but_for_what_is_new() {
    // The behaviour file, section 3.4, in its order; what is read now is among the meanings.
    each(&[
        ("A*3«*»2", "the step has a factor already", "write a*3, once"),
        ("A(«10»->B,1->C)", "`10` is no label", "one digit, 0 to 9"),
        ("«1»*A", "`1` is no factor: it says how often a step is tried, from 2", "remove it"),
        ("A*«1»", "`1` is no factor: it says how often a step is tried, from 2", "remove it"),
        ("A «->»", "a step is missing after `->`", "name one, or remove the arrow"),
        ("«->» A", "a step is missing before `->`", "start the flow with a step's name"),
        ("A «B»", "`->` is missing between `A` and `B`", "write A -> B"),
        ("«»", "the flow is empty", "name at least one step"),
        ("3*«4»", "`4` is not a step", "between a step and one number"),
        ("A*«B»", "a number is missing after `*`", "write a*3"),
        // From its tests.
        ("A(«10»->C,40->B)", "`10` is no label", "one digit"),
        ("«1» * A -> B * 0", "`1` is no factor: it says how often a step is tried, from 2", ""),
        ("2 * A -> B * «0»", "`0` is no factor: it says how often a step is tried, from 2", ""),
        ("«-1» * A", "unexpected `-1`", "a number has no sign"),
    ]);
}

#[test]
fn every_text_that_the_document_takes_silently_wrong_is_refused() {
    each(&[
        ("A(0->B,«0»->C)", "label `0` is given twice", "give one of them another label"),
        (
            "«0»->A",
            "`0` is the label of a branch, and stands in a step's parentheses",
            "write a(0 -> b)",
        ),
        ("A«;»->B", "unexpected `;`", "ASCII"),
        ("«Ä»rger", "unexpected `Ä`", "ASCII"),
        (
            "«@recursive-depth:500»\nA",
            "`@recursive-depth:500`: there is no such limit to set",
            "remove",
        ),
        ("A -> «@retries:3» B", "unexpected `@retries:3`", "no directives"),
    ]);
    // `A(B->C,D->E)` is two branches on labels `B` and `D`: wrong only where these are steps, which
    // is known when names are looked up, or when the flow itself names them.
    assert_eq!(parse("A(B->C,D->E)").unwrap().steps().len(), 3);
    each(&[
        ("A(B->C,«C»->E)", "`C` is both a step and the label of a branch", "mean 1 -> C, after"),
        ("A(B->C) -> «B»", "`B` is both a step and the label of a branch", "another name"),
        ("A(B->«B»)", "`B` is both a step and the label of a branch", "another name"),
        ("A(«A»->B)", "`A` is both a step and the label of a branch", "another name"),
    ]);
}

#[test]
fn a_line_of_steps_with_a_mistake_says_where_and_what_to_do() {
    each(&[
        ("« \n»", "the flow is empty", "name at least one step"),
        ("«# all\n#a»", "the flow is empty", "name at least one step"),
        ("a -> «->» b", "a step is missing between two arrows", "remove an arrow"),
        ("a -> «|->» b", "a step is missing between two arrows", "remove an arrow"),
        ("a -> b -> «a»", "step `a` is named twice", "declare it again under another name"),
        ("a(0 -> b) || {c -> «b»}", "step `b` is named twice", "another name"),
        ("«1a» -> b", "unexpected `1a`", "starts with a letter"),
        ("a «=>» b", "unexpected `=>`", "write `->` between"),
        ("a «→» b", "unexpected `→`", "write `->` between"),
        ("a «-->» b", "unexpected `-->`", "write `->` between"),
        ("a «–>» b", "unexpected `–>`", "write `->` between"),
        ("a «|>» b", "unexpected `|>`", "`|->` to bind the value"),
        ("a «-» b", "unexpected `-`", "write `->` between"),
        ("a «|» b", "unexpected `|`", "`||` for side by side"),
        ("a ->«>» b", "unexpected `>`", "write `->` between"),
        ("a «&»& b", "unexpected `&`", "write `||` between"),
        ("«ü»ber -> a", "unexpected `ü`", "ASCII"),
        ("a -> b«;» rm", "unexpected `;`", "ASCII"),
        ("a«.»b", "unexpected `.`", "ASCII"),
        ("a«\0»", "unexpected `\\0`", "ASCII"),
        ("a -> «\u{feff}»b", "unexpected `\\u{feff}`", "very start"),
        ("«\"»a\" -> b", "unexpected `\\\"`", "without quotes"),
        ("a «3»", "`3` is not a step", "a*3 tries a step 3 times"),
        ("a -> «3»", "`3` is not a step", "a*3 tries a step 3 times"),
        ("a«,» b", "`,` stands outside of branches", "`||` stands between steps"),
        ("«,» b", "`,` stands outside of branches", "`||` stands between steps"),
        ("a«)»", "`)` closes nothing", "remove it"),
        ("a -> b «}»", "`}` closes nothing", "remove it"),
        ("a«]»", "`]` closes nothing", "remove it"),
        ("a «{»b}", "`->` is missing between `a` and `{`", "write `->` or `||`"),
    ]);
}

#[test]
fn operators_and_factors_with_a_mistake_say_where_and_what_to_do() {
    each(&[
        ("a «||»", "a step is missing after `||`", "remove the `||`"),
        ("«||» a", "a step is missing before `||`", "start the flow"),
        ("a || «->» b", "a step is missing between `||` and `->`", "remove one of the two"),
        ("a -> «||» b", "a step is missing between `->` and `||`", "remove one of the two"),
        ("a || «||» b", "a step is missing between `||` and `||`", "remove one of the two"),
        ("«*» 3", "a step is missing before `*`", "start the flow"),
        ("3 «*»", "a step is missing after `*`", "name one, or remove the `*`"),
        ("a «*»", "a number is missing after `*`", "write a*3"),
        ("a*«->» b", "a number is missing after `*`", "write a*3"),
        ("a*«2x»", "unexpected `2x`", "starts with a letter"),
        ("3*a«*»2", "the step has a factor already", "once"),
        ("a*3(0->b)«*»2", "the step has a factor already", "once"),
        ("3*«4»*a", "`4` is not a step", "one number"),
        ("a*«4294967296»", "`4294967296` is too large", "up to 4294967295"),
        ("{a || b}«*»3", "a group can't be tried again as a whole", "on its steps: {a*3"),
        ("«3»*(a || b)", "a group can't be tried again as a whole", "on its steps: {a*3"),
        ("(a)[any]«*»3", "a group can't be tried again as a whole", "on its steps"),
    ]);
}

#[test]
fn groups_with_a_mistake_say_where_and_what_to_do() {
    each(&[
        ("a -> «{}»", "the group is empty", "remove its brackets"),
        ("«( )» -> a", "the group is empty", "remove its brackets"),
        ("«{»a || b", "`{` is not closed", "write `}` where it ends"),
        ("{«(»a || b", "`(` is not closed", "write `)` where it ends"),
        ("a -> «{»", "`{` is not closed", "write `}`"),
        ("{a || b«)»", "`)` does not close `{`", "write `}`"),
        ("{«)»", "`)` does not close `{`", "write `}`"),
        ("{«->» a}", "a step is missing before `->`", "start the group with"),
        ("{a «->»}", "a step is missing after `->`", "remove the arrow"),
        ("a(0 -> {b«,» c})", "`,` stands outside of branches", "`||` stands between"),
        ("«[»any]", "there is no group before `[`", "{a || b}[any]"),
        ("a«[»any]", "an evaluation belongs to a group, and `a` is a step", "write braces"),
        ("a || b«[»any]", "an evaluation belongs to a group, and `b` is a step", "write braces"),
        ("{a||b}[any]«[»all]", "an evaluation stands right after its group", "once"),
        ("{a||b}(0->c)«[»any]", "an evaluation stands right after its group", "[any](0 -> c)"),
        ("{a||b}(0->c)«(»1->d)", "the branches stand in two lists", "one pair of parentheses"),
        ("{a||b}«[»any", "`[` is not closed", "write `]`"),
        ("{a||b}«[»", "`[` is not closed", "write `]`"),
        ("{a||b}[any«)»", "`)` does not close `[`", "write `]`"),
        ("{a||b}[«]»", "unexpected `]` in an evaluation", "[any], [at_least(2)]"),
        ("{a||b}[any «all»]", "unexpected `all` in an evaluation", "write one"),
        ("{a||b}[«anny»]", "there is no evaluation `anny`", "did you mean `any`? known: all,"),
        ("{a||b}[«at_least»]", "`at_least` needs a number", "write at_least(2)"),
        ("{a||b}[at_least(«x»)]", "unexpected `x` in an evaluation", "[at_least(2)]"),
        ("{a||b}[at_least«(»2", "`(` is not closed", "write `)`"),
        (
            "{a||b}[«at_least(3)»]",
            "`at_least(3)` can't be reached by 2 members",
            "at_least(2) or less",
        ),
        ("{a}[«at_least(2)»]", "`at_least(2)` can't be reached by 1 member", "at_least(1) or less"),
        ("{a||b}[percent(«99999999999»)]", "`99999999999` is too large", "up to 4294967295"),
        ("{a||b}[«percent(101)»]", "`percent(101)` is out of range", "1 to 100"),
        ("{a||b}[«any(1)»]", "`any` takes no number", "write any"),
    ]);
}

#[test]
fn branches_with_a_mistake_say_where_and_what_to_do() {
    each(&[
        ("a«()»", "there is no branch in the parentheses", "write (0 -> a, 1 -> b)"),
        ("a(«b»)", "the branch `b` has no label", "did you mean 1 -> b, after success, or 0 -> b"),
        ("a(«b» || c)", "the branch `b` has no label", "did you mean 1 -> b"),
        ("a(0 -> b, «c»)", "the branch `c` has no label", "did you mean 1 -> c"),
        ("a(«{»b})", "unexpected `{` where a branch begins with its label", "write 1 -> a"),
        ("a(«3»*b)", "unexpected `3` where a branch begins with its label", "write 1 -> a"),
        ("a(«->» b)", "the label of a branch is missing before `->`", "write 1 -> after success"),
        ("a(«|->» b)", "the label of a branch is missing before `|->`", "write 1 |-> after"),
        ("a(«0» b)", "an arrow is missing after label `0`", "write 0 -> and"),
        ("a(«0»)", "an arrow is missing after label `0`", "write 0 -> and"),
        ("a(0 «=>» b)", "unexpected `=>`", "write `->`"),
        ("a(0«:» b)", "unexpected `:`", "write `->` after a label"),
        ("a(premium «=>» b)", "unexpected `=>`", "write `->`"),
        ("a(0 «->»)", "a step is missing after `->`", "name one"),
        ("a(0 «->», 1 -> b)", "a step is missing after `->`", "name one"),
        ("a(0 -> b«,»)", "a branch is missing after `,`", "remove the comma"),
        ("a(«,» 0 -> b)", "a branch is missing before `,`", "remove the comma"),
        ("a(0 -> b, «,» 1 -> c)", "a branch is missing before `,`", "remove the comma"),
        ("a(0 -> b «1» -> c)", "`,` is missing between `b` and `1`", "write , 1 ->"),
        ("a(0 -> b «x» -> c)", "`->` or `,` is missing between `b` and `x`", "or , x ->"),
        (
            "a(0 -> «1» -> c)",
            "`1` is the label of a branch, and stands in a step's parentheses",
            "",
        ),
        ("a«(»0 -> b", "`(` is not closed", "write `)`"),
        ("a«(»", "`(` is not closed", "write `)`"),
        ("a«(»0 -> b,", "`(` is not closed", "write `)`"),
        ("a(0 -> b«}»", "`}` does not close `(`", "write `)`"),
        ("a(0 -> b)«(»1 -> c)", "the branches stand in two lists", "one pair of parentheses"),
        ("a(x -> b, «x» -> c)", "label `x` is given twice", "join the two"),
        ("a(«01» -> b)", "`01` is no label", "one digit"),
        ("{a || b}(«2» -> c)", "a group has no branch `2`", "its labels are 0 and 1"),
        ("{a || b}(«x» -> c)", "a group has no branch `x`", "its labels are 0 and 1"),
    ]);
}

#[test]
fn a_mistake_between_two_places_points_at_both() {
    let cases = [
        ("a -> b -> a", 0..1, "first named here"),
        ("a(0 -> b, 0 -> c)", 2..3, "first given here"),
        ("a(b -> c) -> b", 2..3, "the other one is here"),
        ("2*a*3", 0..1, "the first one is here"),
        ("a(0->b)(1->c)", 1..7, "the first one"),
        ("{a)", 0..1, "opened here"),
    ];
    for (text, first, why) in cases {
        let error: FlowError = parse(text).unwrap_err();
        assert_eq!(error.also, Some((first, why.to_owned())), "{text}");
    }
}

#[test]
fn the_first_mistake_from_the_left_is_told() {
    each(&[
        ("a «b» ; -> -> c", "`->` is missing between `a` and `b`", ""),
        ("a -> «a» -> ;", "step `a` is named twice", ""),
        ("a(0 -> b«,») || {", "a branch is missing after `,`", ""),
    ]);
}
