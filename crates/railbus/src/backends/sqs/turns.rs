//! Whose turn it is in a FIFO queue: one of each line at a time.
//!
//! A request brings several events of a line. Only the first is handed out; those behind it wait here,
//! held, until it is settled. If it comes again they go back, and the queue itself holds them back.

use super::held::Lease;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The lines of a member.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Those behind one that is handed out.
    lines: HashMap<Arc<str>, VecDeque<Lease>>,
    /// Those whose turn has come.
    ready: VecDeque<Lease>,
}

impl Turns {
    /// Returns the lease if it is its turn; else it waits.
    pub(super) fn come(&mut self, lease: Lease) -> Option<Lease> {
        let Some(line) = lease.line.clone() else { return Some(lease) };
        match self.lines.get_mut(&line) {
            Some(waiting) => {
                waiting.push_back(lease);
                None
            }
            None => {
                self.lines.insert(line, VecDeque::new());
                Some(lease)
            }
        }
    }

    /// Ends the turn of one that is through: the next one's has come; tells whether there is one.
    pub(super) fn through(&mut self, line: &Arc<str>) -> bool {
        let Some(waiting) = self.lines.get_mut(line) else { return false };
        match waiting.pop_front() {
            Some(next) => {
                self.ready.push_back(next);
                true
            }
            None => {
                self.lines.remove(line);
                false
            }
        }
    }

    /// Ends the turn of one that comes again; returns those that waited behind it.
    pub(super) fn again(&mut self, line: &Arc<str>) -> Vec<Lease> {
        self.lines.remove(line).into_iter().flatten().collect()
    }

    /// Keeps those for which there was no room.
    pub(super) fn keep(&mut self, leases: Vec<Lease>) {
        self.ready.extend(leases);
    }

    /// Takes those whose turn has come, so many at most.
    pub(super) fn take(&mut self, most: usize) -> Vec<Lease> {
        let count = most.min(self.ready.len());
        self.ready.drain(..count).collect()
    }

    /// Takes all that wait.
    pub(super) fn drain(&mut self) -> Vec<Lease> {
        let waiting = self.lines.drain().flat_map(|(_, waiting)| waiting);
        waiting.chain(self.ready.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
    use std::time::Duration;

    fn lease(id: &str, line: &str) -> Lease {
        let message = Message::builder()
            .message_id(id)
            .receipt_handle(id)
            .attributes(MessageSystemAttributeName::MessageGroupId, line)
            .build();
        Lease::begin(message, Duration::from_secs(30), true).unwrap()
    }

    #[test]
    fn one_of_each_line_has_its_turn() {
        let mut turns = Turns::default();
        let came: Vec<_> = [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a")]
            .into_iter()
            .filter_map(|(id, line)| turns.come(lease(id, line)))
            .map(|lease| lease.id.to_string())
            .collect();
        assert_eq!(came, ["1", "3"]);
        assert!(turns.through(&"a".into()) && !turns.through(&"b".into()));
        assert_eq!(&*turns.take(10)[0].id, "2");
        let back: Vec<_> = turns.again(&"a".into()).iter().map(|l| l.id.to_string()).collect();
        assert_eq!(back, ["4"]);
        assert!(turns.come(lease("1", "a")).is_some(), "the line is free again");
    }
}
