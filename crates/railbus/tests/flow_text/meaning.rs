//! What the texts of the language mean.

use crate::shape;
use railbus::pipeline::text::{Unit, is_name, parse};

fn each(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let flow = parse(text).unwrap_or_else(|e| panic!("{text}: {e}\n{}", e.show(text)));
        assert_eq!(shape(&flow), *expected, "{text}");
        for step in flow.steps() {
            assert_eq!(text[step.span.clone()], step.name, "{text}");
        }
        let again = parse(&flow.to_string()).unwrap_or_else(|e| panic!("{flow}: {e}"));
        assert_eq!(shape(&again), *expected, "{text} as {flow}");
    }
}

#[test]
fn every_text_of_the_document_means_what_it_says() {
    // The table of the behaviour file, section 3.3, row by row.
    each(&[
        ("A -> B", "A B"),
        ("A |-> B", "A ~B"),
        ("A || B || C", "[A; B; C]"),
        ("A || B |-> C", "[A; B] ~C"),
        ("A |-> B || C", "A ~[B; C]"),
        ("A -> B || C -> D", "A [B; C] D"),
        ("A(0->B, 1->C)", "A<0:B; 1:C>"),
        ("A(0->B, 1->C, 2->D, 9->E)", "A<0:B; 1:C; 2:D; 9:E>"),
        ("A(0->B, 1->C) -> D", "A<0:B; 1:C> D"),
        ("A(0->B->C, 1->D||E|->F) -> G", "A<0:B C; 1:[D; E] ~F> G"),
        ("A(0 |-> B, 1 -> C)", "A<0:~B; 1:C>"),
        ("A * 3", "A^3"),
        ("3 * A", "A^3"),
        ("A(0->B,1->C) * 3", "A^3<0:B; 1:C>"),
    ]);
    // Its last line names `T` twice and `Z` thrice, which a flow can't: each has a name here.
    let nested = "A->B(0->C(0|->T,1->Z),1->E)->F(0->Y,1->X)";
    each(&[(nested, "A B<0:C<0:~T; 1:Z>; 1:E> F<0:Y; 1:X>")]);
    let ported = "2 * A -> B * 4 ->C";
    each(&[(ported, "A^2 B^4 C")]);
}

#[test]
fn what_the_document_could_not_read_is_read() {
    // Of section 3.4, what a tutorial uses or a reader expects.
    each(&[
        ("A(0->B)", "A<0:B>"),
        ("(A||B)|->C", "[A; B] ~C"),
        ("A->(B||C)->D", "A [B; C] D"),
        ("A*3(0->B,1->C)", "A^3<0:B; 1:C>"),
        ("3*A(0->B,1->C)", "A^3<0:B; 1:C>"),
        ("A(0->B,1->C)||D", "[A<0:B; 1:C>; D]"),
        // A name may hold a `-` here.
        ("a-b->c", "a-b c"),
    ]);
}

#[test]
fn groups_join_what_operators_would_part() {
    each(&[
        ("{A -> B} || C", "[A B; C]"),
        ("(A -> B) || {C |-> D}", "[A B; C ~D]"),
        ("A -> {B -> C} |-> {D -> E}", "A B C ~D E"),
        ("{{{A}}}", "A"),
        ("{A || B} || C", "[[A; B]; C]"),
        ("{A || B || C}", "[A; B; C]"),
        ("{{A || B}}", "[A; B]"),
        ("{A || B -> C}", "[A; B] C"),
        ("{mail || sms}[any] -> done", "[mail; sms]@any done"),
        ("(a || b || c)[at_least(2)]", "[a; b; c]@at_least(2)"),
        ("{a||b}[ percent ( 50 ) ]", "[a; b]@percent(50)"),
        ("{a||b}[all]", "[a; b]@all"),
        ("{a||b}[none_failed]", "[a; b]@none_failed"),
        ("{a||b}[not_all_failed]", "[a; b]@not_all_failed"),
        ("{a||b}[majority]", "[a; b]@majority"),
        ("{a}[any]", "[a]@any"),
        ("{a -> b}[any]", "[a b]@any"),
        ("{{a || b}[any]}[all]", "[[a; b]@any]@all"),
        ("{A || B}(0 -> C, 1 |-> D)", "[A; B]<0:C; 1:~D>"),
        ("{A -> B}(0 -> C)", "[A B]<0:C>"),
        ("{A}(0 -> C)", "[A]<0:C>"),
        ("{A || B}[any](0 -> C) -> D", "[A; B]@any<0:C> D"),
        ("{A || B}(0 -> C) || D", "[[A; B]<0:C>; D]"),
        ("{{A || B}(0 -> C)}[any]", "[[A; B]<0:C>]@any"),
    ]);
}

#[test]
fn branches_have_digits_and_names_and_hold_whole_flows() {
    each(&[
        ("A(0 |-> B -> C || D, 1 -> {E -> F}, premium -> G)", "A<0:~B [C; D]; 1:E F; premium:G>"),
        (
            "validate -> charge(0 -> refund, 1 -> ship || notify)",
            "validate charge<0:refund; 1:[ship; notify]>",
        ),
        (
            "classify(premium -> process_premium) -> notify",
            "classify<premium:process_premium> notify",
        ),
        ("a(x -> b) -> c(x -> d)", "a<x:b> c<x:d>"),
        ("a(0 -> (b || c)[any](1 -> d))", "a<0:[b; c]@any<1:d>>"),
        ("a*2 || 3*b(0 -> c*4)", "[a^2; b^3<0:c^4>]"),
        ("a(0->b)*4294967295", "a^4294967295<0:b>"),
    ]);
}

#[test]
fn white_space_and_comments_may_stand_between_any_words() {
    each(&[
        ("  a\n", "a"),
        ("\u{feff}a", "a"),
        ("load-it\t->\n_x9", "load-it _x9"),
        ("a-->b", "a- b"),
        ("a # the first -> one\n-> # then\r\n b#", "a b"),
        ("# nothing\n a\n(\n0\n->\nb\n,\n1 |-> c\n)\n*\n3", "a^3<0:b; 1:~c>"),
        ("{ a\n|| # both\n b } [ any ]", "[a; b]@any"),
    ]);
    assert!(is_name("a-") && !is_name("a>") && !is_name(""));
}

#[test]
fn every_node_knows_its_place() {
    let text = "go -> 3*b || (c -> d)[any] |-> e(0 -> {f || g}, x |-> h)";
    let flow = parse(text).unwrap();
    let place = |span: std::ops::Range<usize>| &text[span];
    let arrows: Vec<_> = flow.links.iter().map(|link| place(link.arrow.clone())).collect();
    assert_eq!(arrows, ["", "->", "|->"]);
    let spans: Vec<_> = flow.links.iter().map(|link| place(link.unit.span())).collect();
    assert_eq!(spans, ["go", "3*b || (c -> d)[any]", "e"]);
    let Unit::Step(e) = &flow.links[2].unit else { panic!("{flow:?}") };
    let labels: Vec<_> = e.branches.iter().map(|b| place(b.span.clone())).collect();
    assert_eq!(labels, ["0", "x"]);
    assert_eq!(place(e.branches[0].flow.links[0].unit.span()), "{f || g}");
    let Unit::Group(both) = &flow.links[1].unit else { panic!("{flow:?}") };
    assert_eq!(place(both.members[1].links[0].unit.span()), "(c -> d)[any]");
}

#[test]
fn texts_that_mean_the_same_have_one_canonical_text() {
    let same = ["3*a->(b||c)|->d", "{a * 3 -> {b || c}} |-> d # end", "a*3\n-> b ||\tc |-> (d)"];
    for text in same {
        assert_eq!(parse(text).unwrap().to_string(), "a*3 -> b || c |-> d");
    }
    let text = "a*2(0 -> {b -> c} || {d || e}, x |-> {f || g}[percent(50)](1 -> h))";
    assert_eq!(parse(text).unwrap().to_string(), text);
}
