//! A first step, as a struct; steps with one job each; failures whose messages say something.

use railbus::{Failure, Pipeline, StepError, Steps, Value, json, step, store};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct User {
    email: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Registered {
    user_id: String,
    status: String,
}

struct UserRegistration;

#[step]
impl UserRegistration {
    async fn run(&self, user_data: &User) -> Result<Registered, Failure> {
        let Some(email) = &user_data.email else { return Err(Failure::new("Email is required")) };
        Ok(Registered { user_id: self.create_user(email).await, status: "registered".into() })
    }
}

impl UserRegistration {
    async fn create_user(&self, _email: &str) -> String {
        "u983".into()
    }
}

/// One job; and both outcomes carry the address.
#[step]
fn validate_email(email: &str) -> Result<String, Failure> {
    match email.contains('@') {
        true => Ok(email.into()),
        false => Err(Failure::new("Not an e-mail address").value(email)),
    }
}

#[step]
fn store_user(validate_email: &str) -> String {
    format!("stored {validate_email}")
}

#[step]
fn notify(store_user: &str) -> String {
    format!("told about: {store_user}")
}

/// Not "Error occurred".
#[step]
fn check(data: &Value) -> Result<(), Failure> {
    data.get("required_field").map(drop).ok_or(Failure::new("`required_field` is missing"))
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    let signup = Pipeline::new("signup").step(UserRegistration).build()?;
    println!("{}", signup.run(store! { "user_data" => User { email: None } }).await);
    let user = User { email: Some("ada@example.com".into()) };
    let report = signup.run(store! { "user_data" => user }).await;
    let registered = report.get::<Registered>("user_registration")?;
    println!("{report}\n{} is {}", registered.user_id, registered.status);

    let steps = Steps::new().add(validate_email).add(store_user).add(notify);
    let flow = "validate_email -> store_user -> notify";
    let process_user = Pipeline::new("process_user").steps(steps).flow(flow).build()?;
    let report = process_user.run(store! { "email" => "ada@example.com" }).await;
    println!("{}", report.get::<String>("notify")?);
    let report = process_user.run(store! { "email" => "ada" }).await;
    if let Some(StepError::Failure(no)) = report.error() {
        println!("{}: {}", no.message(), no.found());
    }

    let checks = Pipeline::new("checks").step(check).build()?;
    println!("{}", checks.run(store! { "data" => json!({ "another_field": 1 }) }).await);
    Ok(())
}
