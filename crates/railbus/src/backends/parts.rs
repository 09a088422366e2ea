//! Cutting a batch into parts that are published one after another, each as a whole.

/// What one part has at most, the first event over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) events: usize,
    pub(super) weight: usize,
}

/// Tells how many of these events the next part has. It ends where no input is left between two of its
/// positions: an event that moves none goes with the next one that does.
pub(super) fn part<T>(
    rest: &[T],
    most: Most,
    weigh: impl Fn(&T) -> usize,
    moves: impl Fn(&T) -> bool,
) -> usize {
    let last_move = rest.iter().rposition(&moves);
    let (mut end, mut weight) = (0, 0_usize);
    for (at, event) in rest.iter().enumerate() {
        weight = weight.saturating_add(weigh(event));
        if end > 0 && (weight > most.weight || at >= most.events) {
            break;
        }
        if moves(event) || last_move.is_none_or(|last| at > last) {
            end = at + 1;
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the parts of events that weigh so much, and move an input or not.
    fn cut(events: &[(usize, bool)]) -> Vec<usize> {
        let most = Most { events: 4, weight: 100 };
        let (mut rest, mut parts) = (events, Vec::new());
        while !rest.is_empty() {
            let count = part(rest, most, |one| one.0, |one| one.1);
            parts.push(count);
            rest = &rest[count..];
        }
        parts
    }

    #[test]
    fn a_part_has_as_much_as_one_may_have_and_one_event_at_least() {
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[(1, false); 9]), [4, 4, 1]);
        assert_eq!(cut(&[(50, false), (50, false), (1, false)]), [2, 1]);
        assert_eq!(cut(&[(500, false), (500, true), (1, false)]), [2, 1]);
        assert_eq!(cut(&[(usize::MAX, true), (usize::MAX, true)]), [1, 1]);
    }

    #[test]
    fn what_is_read_before_a_position_goes_with_it() {
        assert_eq!(cut(&[(60, false), (60, false), (60, true), (60, false)]), [3, 1]);
        assert_eq!(cut(&[(60, true), (60, false), (60, true)]), [1, 2]);
        assert_eq!(cut(&[(1, true), (1, false), (1, true), (1, false), (1, true)]), [3, 2]);
    }
}
