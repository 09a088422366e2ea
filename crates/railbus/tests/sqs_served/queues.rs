//! Queues for tests, asked past Railbus.
// Each file needs its part of it.
#![allow(dead_code)]

use railbus::{Map, Value, json};
use railbus_testbed::Moto;
use std::sync::OnceLock;

/// Returns the server that the tests of a file share.
pub(crate) fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(|| Moto::start().unwrap())
}

/// Asks past Railbus.
pub(crate) fn ask(action: &str, about: &Value) -> Value {
    let answer = moto().ask(action, &about.to_string()).unwrap();
    if answer.is_empty() { Value::Null } else { railbus_value(&answer) }
}

fn railbus_value(text: &str) -> Value {
    text.parse().unwrap()
}

/// A queue with a name of its own.
pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Queue {
    /// Makes one whose dead letters have a queue, and that moves none by itself.
    pub(crate) fn new(base: &str) -> Self {
        Self::with_dead(base, 1000).0
    }

    /// Makes one without a queue for dead letters.
    pub(crate) fn bare(base: &str) -> Self {
        Self::with(base, &json!({}))
    }

    pub(crate) fn with(base: &str, attributes: &Value) -> Self {
        let (base, end) = base.strip_suffix(".fifo").map_or((base, ""), |base| (base, ".fifo"));
        let id = railbus::id::new_id();
        let name = format!("{base}-{}{end}", &id[id.len() - 12..]);
        let mut attributes: Map<String, Value> = attributes.as_object().unwrap().clone();
        if !end.is_empty() {
            attributes.insert("FifoQueue".into(), json!("true"));
        }
        ask("CreateQueue", &json!({ "QueueName": name, "Attributes": attributes }));
        Self { url: moto().queue_url(&name), name }
    }

    /// Makes a queue whose dead letters go to another one, after so many receipts.
    pub(crate) fn with_dead(base: &str, most: u32) -> (Self, Self) {
        let (bare, end) = base.strip_suffix(".fifo").map_or((base, ""), |base| (base, ".fifo"));
        let dead = Self::bare(&format!("{bare}-dead{end}"));
        let arn = format!("arn:aws:sqs:us-east-1:123456789012:{}", dead.name);
        let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": most }).to_string();
        (Self::with(base, &json!({ "RedrivePolicy": policy })), dead)
    }

    /// Returns what opens it, with settings behind it.
    pub(crate) fn bus(&self, settings: &str) -> String {
        // moto keeps no order between two requests that wait at the same time.
        let wait = if self.name.ends_with(".fifo") { 0 } else { 1 };
        format!("{}&wait_time_seconds={wait}{settings}", moto().url(&self.name))
    }

    /// Puts a message into it, as somebody else would.
    pub(crate) fn put(&self, body: &str, attributes: &Value) {
        let send =
            json!({ "QueueUrl": self.url, "MessageBody": body, "MessageAttributes": attributes });
        ask("SendMessage", &send);
    }

    /// Takes up to ten messages out, and hides them.
    pub(crate) fn receive(&self) -> Vec<Value> {
        let about = json!({
            "QueueUrl": self.url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 600,
            "MessageAttributeNames": ["All"], "AttributeNames": ["All"],
        });
        ask("ReceiveMessage", &about)["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// Returns how many messages can be received, are held, and are held back.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let said =
            ask("GetQueueAttributes", &json!({ "QueueUrl": self.url, "AttributeNames": ["All"] }));
        let names = ["", "NotVisible", "Delayed"];
        names.map(|name| {
            let count = &said["Attributes"][format!("ApproximateNumberOfMessages{name}")];
            count.as_str().map_or_else(|| count.as_u64(), |text| text.parse().ok()).unwrap()
        })
    }
}
