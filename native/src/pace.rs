//! When an attempt to use remembered texts is worth its cost.

/// More new texts than this share of a document cost more than a parser of the whole document.
const MAX_NEW: f64 = 0.25;
/// The share of new texts falls while texts are learnt. A smaller step is noise.
const LEARNING: f64 = 15.0 / 16.0;
const MAX_PAUSE: u32 = 31;

/// Pauses while most texts are new and stay so: each pause is twice as long as the one before, up to 31 documents.
pub struct Pace {
    pause: u32,
    next_pause: u32,
    fewest_new: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { pause: 0, next_pause: 1, fewest_new: f64::INFINITY }
    }
}

impl Pace {
    /// Whether the next document is left out.
    pub fn pauses(&mut self) -> bool {
        let pauses = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        pauses
    }

    /// So many texts of a document were new.
    pub fn update(&mut self, new: usize, all: usize) {
        let share = new as f64 / all.max(1) as f64;
        if share <= MAX_NEW {
            *self = Pace::default();
        } else if share < LEARNING * self.fewest_new {
            self.fewest_new = share;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (2 * self.next_pause + 1).min(MAX_PAUSE);
        }
    }
}
