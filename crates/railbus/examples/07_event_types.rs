//! The types that have a name, and one of the program's own.

use railbus::{Event, Type};

fn main() {
    for known in [
        Type::CREATED,
        Type::UPDATED,
        Type::DELETED,
        Type::ACTIVATED,
        Type::DEACTIVATED,
        Type::ERROR,
        Type::CUSTOM,
    ] {
        println!("{known}");
    }
    let own = Event::new("order.placed").payload(());
    match own.event_type() {
        Type::CREATED => println!("something new"),
        other => println!("{other}"),
    }
}
