//! A step that decides where the run goes: by a jump, or by the label of a branch.

use railbus::{Flow, Pipeline, RunReport, StepError, Steps, step, store};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Account {
    name: String,
    kind: String,
}

fn process_regular(data: &Account) -> Result<String, StepError> {
    Ok(format!("{} as usual", data.name))
}

/// The targets are declared, as paths: one that is not there does not compile.
#[step(goto = [process_premium])]
fn classify(data: &Account) -> Result<Flow, StepError> {
    if data.kind == "premium" {
        return Ok(Flow::goto("process_premium", data.clone())
            .reason("Premium user detected")
            .into());
    }
    Ok(Flow::next(process_regular(data)?))
}

/// The same without a jump: the branch's label is known when the pipeline is built, what runs
/// there is not this step's business.
#[step]
fn classify_by_label(data: &Account) -> Result<Flow, StepError> {
    match data.kind.as_str() {
        "premium" => Ok(Flow::branch("premium", data.clone())),
        _ => Ok(Flow::next(process_regular(data)?)),
    }
}

#[step]
fn process_premium(account: &Account) -> String {
    format!("{} with a gift", account.name)
}

#[step]
fn notify() -> &'static str {
    "told"
}

fn tell(report: &RunReport) {
    println!("{}: {}", report.status(), report.path().collect::<Vec<_>>().join(" -> "));
    for step in report.steps() {
        if let Some(jump) = &step.goto {
            println!("  {}: goto {}, {}", step.name, jump.to, jump.reason);
        }
        if let Some(label) = &step.branch {
            println!("  {}: branch {label}", step.name);
        }
    }
    if let Ok(premium) = report.get::<String>("process_premium") {
        println!("  {premium}");
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let steps = Steps::new().add(classify).add(classify_by_label).add(process_premium).add(notify);
    let users = || Pipeline::new("users").steps(steps.clone());
    for users in [
        Pipeline::new("users")
            .step(classify)
            .on_label("premium", process_premium)
            .step(notify)
            .build()?,
        users().flow("classify(premium -> process_premium) -> notify").build()?,
        users().flow("classify_by_label(premium |-> process_premium) -> notify").build()?,
    ] {
        for (name, kind) in [("Ada", "premium"), ("Bob", "regular")] {
            let data = Account { name: name.into(), kind: kind.into() };
            tell(&users.run(store! { "data" => data }).await);
        }
    }

    let lost = users().flow("classify -> notify").build();
    println!("{}", lost.err().map(|e| e.to_string()).unwrap_or_default());
    Ok(())
}
