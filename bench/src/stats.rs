//! Medians, and ratios of two series.

use std::fmt::{self, Display, Formatter};

use anyhow::ensure;

/// Returns the median; NaN without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Returns a quantile of sorted values, interpolated; NaN without values.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let value = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    let (lower, upper) = (value(place.floor()), value(place.ceil()));
    lower + (upper - lower) * place.fract()
}

/// Distribution of the ratios of two series, round by round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    /// First and third quartile.
    pub(crate) middle_half: (f64, f64),
    /// Lowest and highest ratio.
    pub(crate) range: (f64, f64),
}

impl Ratio {
    /// Divides each value by the value of `base` in the same round.
    ///
    /// # Errors
    ///
    /// If there are no values, a round is missing in one series, or a ratio is not a finite
    /// number.
    pub(crate) fn of(values: &[f64], base: &[f64]) -> anyhow::Result<Self> {
        ensure!(!values.is_empty() && values.len() == base.len(), "a round is missing");
        let mut ratios: Vec<f64> =
            values.iter().zip(base).map(|(value, base)| value / base).collect();
        ensure!(ratios.iter().all(|ratio| ratio.is_finite()), "a ratio is not finite");
        ratios.sort_by(f64::total_cmp);
        let at = |share| quantile(&ratios, share);
        Ok(Self { median: at(0.5), middle_half: (at(0.25), at(0.75)), range: (at(0.0), at(1.0)) })
    }
}

/// Median and range: `1.02 (0.97–1.08)`. The precision is that of the format, or 2.
impl Display for Ratio {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (digits, (least, greatest)) = (formatter.precision().unwrap_or(2), self.range);
        let text = format!("{:.digits$} ({least:.digits$}–{greatest:.digits$})", self.median);
        // With the width and alignment of the format, but not its precision.
        match formatter.width() {
            Some(width) => write!(formatter, "{text:>width$}"),
            None => formatter.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_interpolates_between_two_middle_values() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([7.0]), 7.0);
        assert!(median([]).is_nan());
    }

    #[test]
    fn ratio_is_of_same_round() {
        let ratio = Ratio::of(&[2.0, 30.0, 4.0, 5.0, 6.0], &[1.0, 10.0, 1.0, 1.0, 1.0]).unwrap();
        assert_eq!((ratio.median, ratio.middle_half, ratio.range), (4.0, (3.0, 5.0), (2.0, 6.0)));
        assert_eq!(format!("{ratio:>20.1}"), "       4.0 (2.0–6.0)");
        assert_eq!(format!("{ratio}"), "4.00 (2.00–6.00)");
    }

    #[test]
    fn ratio_fails_on_missing_rounds_and_zero_base() {
        assert!(Ratio::of(&[], &[]).is_err());
        assert!(Ratio::of(&[1.0], &[1.0, 2.0]).is_err());
        assert!(Ratio::of(&[1.0], &[0.0]).is_err());
    }
}
