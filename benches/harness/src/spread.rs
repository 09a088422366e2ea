//! Median and spread.

/// What several measurements of one thing came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    /// A quarter of the measurements are below.
    pub(crate) low: f64,
    pub(crate) median: f64,
    /// A quarter of the measurements are above.
    pub(crate) high: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * sorted.len().saturating_sub(1) as f64;
            let (below, above) = (place.floor() as usize, place.ceil() as usize);
            let value = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
            value(below) + (value(above) - value(below)) * place.fract()
        };
        Self { min: at(0.0), low: at(0.25), median: at(0.5), high: at(0.75), max: at(1.0) }
    }

    /// Says whether it is at most `limit`; what lies around it is neither.
    pub(crate) fn at_most(&self, limit: f64) -> &'static str {
        if self.high <= limit {
            "met"
        } else if self.low > limit {
            "not met"
        } else {
            "indistinguishable"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn quarters_lie_between_measurements() {
        let spread = Spread::of([5.0, 1.0, 3.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.5, 5.0));
        assert_eq!((spread.low, spread.high), (1.75, 3.5));
    }

    #[test]
    fn inside_the_spread_nothing_is_said() {
        let spread = Spread::of([1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(spread.at_most(4.0), "met");
        assert_eq!(spread.at_most(3.0), "indistinguishable");
        assert_eq!(spread.at_most(1.5), "not met");
    }
}
