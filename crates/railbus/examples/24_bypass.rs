//! A step that is passed by: asked before it runs, always; what is said in its place is passed on.

use railbus::{Failure, IntoStep, Pipeline, Value, json, step, store};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct User {
    name: String,
}

struct UserValidation;

#[step]
impl UserValidation {
    fn can_bypass(&self, user_role: &str, maintenance: bool) -> Option<Value> {
        if user_role == "admin" {
            return Some(json!({ "bypass_reason": "Admin users skip validation" }));
        }
        maintenance.then(|| json!({ "bypass_reason": "Maintenance mode active" }))
    }

    fn run(&self, user_data: &User) -> Result<Value, Failure> {
        match user_data.name.is_empty() {
            true => Err(Failure::new("a user has a name")),
            false => Ok(json!({ "valid": user_data.name })),
        }
    }
}

#[step]
fn greet(how: &Value) -> String {
    how.to_string()
}

#[step]
fn validate(user_data: &User) -> String {
    format!("{} is valid", user_data.name)
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let users = Pipeline::new("users").step(UserValidation).pipe(greet).build()?;
    for (user_role, maintenance) in [("admin", false), ("user", true), ("user", false)] {
        let user_data = User { name: "Ada".into() };
        let report = users
            .run(store! {
                "user_data" => user_data, "user_role" => user_role, "maintenance" => maintenance
            })
            .await;
        println!("{}: {}", report.steps()[0].status, report.get::<String>("greet")?);
    }

    // A function, where it is used:
    let known = validate.bypass(|input| input.store().has("validated_before"));
    let users = Pipeline::new("users").step(known).build()?;
    let report = users.run(store! {
        "user_data" => User { name: "Ada".into() }, "validated_before" => true
    });
    println!("{}", report.await.steps()[0].status);
    Ok(())
}
