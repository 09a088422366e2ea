//! When a group of steps succeeds: strict, lenient, and what is between.

use railbus::{Evaluation, Failure, Flow, Pipeline, StepDef, Steps, each, parallel, step, store};

#[step]
fn mail() -> &'static str {
    "sent"
}

#[step]
fn sms() -> Result<(), Failure> {
    Err(Failure::new("no number"))
}

#[step]
fn done() -> &'static str {
    "done"
}

/// Succeeds or fails, as it is told.
fn member(name: &str, succeeds: bool) -> StepDef {
    StepDef::fallible(name, move |_| match succeeds {
        true => Ok(Flow::Next(None)),
        false => Err(Failure::new("no").into()),
    })
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    // A group of one succeeds when its member does, whichever of the four is asked for.
    let one = Pipeline::new("one").step(parallel([mail]).evaluate(All)).build()?;
    println!("{}", one.run(store! {}).await.status());

    let strict = parallel((mail, sms)); // All is the default
    let lenient = parallel((mail, sms)).evaluate(Any);
    println!("{}", Pipeline::new("strict").step(strict).step(done).build()?.run(store! {}).await);
    println!("{}", Pipeline::new("lenient").step(lenient).step(done).build()?.run(store! {}).await);
    let steps = Steps::new().add(mail).add(sms).add(done);
    let text = Pipeline::new("text").steps(steps).flow("{mail || sms}[any] -> done").build()?;
    println!("as text: {}", text.run(store! {}).await.status());

    use Evaluation::{All, Any, AtLeast, Majority, NoneFailed, NotAllFailed, Percent};
    let states = [All, NoneFailed, Any, NotAllFailed, AtLeast(2), Percent(50), Majority];
    println!("| group | {} |", states.map(|state| state.to_string()).join(" | "));
    for (group, flags) in [
        ("both succeed", [true, true]),
        ("one fails", [true, false]),
        ("both fail", [false, false]),
    ] {
        print!("| {group} |");
        for state in states {
            let members = parallel([member("a", flags[0]), member("b", flags[1])]);
            let group = Pipeline::new("p").step(members.evaluate(state)).build()?;
            print!(" {} |", group.run(store! {}).await.status());
        }
        println!();
    }
    print!("| empty |");
    for state in states {
        let nothing = each("items", member("a", true).needs::<u8>("item")).evaluate(state);
        let group = Pipeline::new("p").step(nothing).build()?;
        print!(" {} |", group.run(store! { "items" => Vec::<u8>::new() }).await.status());
    }
    println!();
    Ok(())
}
