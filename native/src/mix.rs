//! `mix64` and `prepare` of `streamer/features/hashing.py`, and a modulo without a division.

/// The hash of a free place of a multi-valued feature.
pub const PADDING: u64 = 0;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's finalizer. Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
#[inline(always)]
pub fn mix64(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// The part of a joined hash that depends only on the left hash.
#[inline(always)]
pub fn prepare(left: u64) -> u64 {
    mix64(left.wrapping_add(GOLDEN)).wrapping_add(GOLDEN)
}

/// A divisor with its reciprocal.
#[derive(Clone, Copy)]
pub struct Modulus {
    divisor: u64,
    reciprocal: u64,
}

impl Modulus {
    /// `divisor` must not be 0.
    pub fn new(divisor: u64) -> Self {
        Modulus { divisor, reciprocal: u64::MAX / divisor }
    }

    /// `x % divisor`. The estimated quotient is at most 2 too small.
    #[inline(always)]
    pub fn of(self, x: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = x.wrapping_sub(quotient.wrapping_mul(self.divisor));
        // Every fourth remainder is too large: a jump would be predicted wrongly. A difference below 0 wraps to a large one.
        let rest = rest.min(rest.wrapping_sub(self.divisor));
        rest.min(rest.wrapping_sub(self.divisor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modulus_equals_the_remainder() {
        let numbers = (0..64).flat_map(|i| [1u64 << i, (1u64 << i).wrapping_sub(1), mix64(i), u64::MAX - i]);
        for x in numbers {
            for divisor in [1, 2, 3, 7, 1000, 1024, (1 << 31) - 1, 1 << 32, u64::MAX / 2, u64::MAX] {
                assert_eq!(Modulus::new(divisor).of(x), x % divisor, "{} % {}", x, divisor);
            }
        }
    }
}
