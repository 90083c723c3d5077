//! What a shootdown request names: a few ranges of pages, or everything.

use crate::bug::{self, Bug};
use crate::space::SpaceId;
use arrayvec::ArrayVec;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// The most ranges that one request lists; a request for more flushes everything. Eight stacks of four pages are just
/// under the usual ceiling of 33 pages.
pub const MAX_RANGES: usize = 8;

/// Consecutive pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRange {
    /// Address of the first page's first byte; a multiple of [`PAGE_SIZE`].
    pub start: u64,
    /// Number of pages.
    pub pages: u32,
}

impl PageRange {
    /// The address of each page.
    pub fn addresses(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.pages)).map(move |page| self.start + page * PAGE_SIZE)
    }
}

/// The ranges of one request. Past the ceiling in pages, or past [`MAX_RANGES`], it means everything: flushing page by
/// page would cost more than what flushing all makes others load again.
#[derive(Clone, Debug)]
pub struct Ranges {
    listed: ArrayVec<PageRange, MAX_RANGES>,
    /// There were more than it lists.
    too_many: bool,
    pages: u32,
    ceiling: u32,
    /// The space that they are in, and its generation; none for what is mapped in all.
    space: Option<(SpaceId, u64)>,
    frees_tables: bool,
}

impl Ranges {
    /// No page yet; everything once there are more than `ceiling` pages.
    #[must_use]
    #[inline(always)]
    pub const fn new(ceiling: u32) -> Self {
        Self { listed: ArrayVec::new_const(), too_many: false, pages: 0, ceiling, space: None, frees_tables: false }
    }

    /// Everything, however little that is.
    #[must_use]
    pub const fn everything() -> Self {
        let mut all = Self::new(0);
        all.pages = u32::MAX;
        all
    }

    /// Adds what `other` means.
    pub fn add(&mut self, other: &Self) {
        let is_first = self.is_empty();
        match other.listed() {
            Some(listed) => listed.iter().for_each(|range| self.push(*range)),
            None => self.pages = u32::MAX,
        }
        self.space = match (self.space, other.space) {
            _ if is_first => other.space,
            (Some((one, younger)), Some((two, other))) if one == two => Some((one, younger.max(other))),
            (None, None) => None,
            // Several spaces: everything, on every CPU.
            _ => {
                self.pages = u32::MAX;
                None
            }
        };
        self.frees_tables |= other.frees_tables;
    }

    /// Says that they are in this space, and were cleared before it came to this generation.
    pub(crate) const fn set_space(&mut self, id: SpaceId, generation: u64) {
        self.space = Some((id, generation));
    }

    /// The space that they are in, and its generation.
    #[must_use]
    pub const fn space(&self) -> Option<(SpaceId, u64)> {
        self.space
    }

    /// Says that page tables are freed, too: CPUs that may only walk them must be asked.
    pub const fn free_tables(&mut self) {
        self.frees_tables = true;
    }

    /// Whether page tables are freed, too.
    #[must_use]
    pub fn frees_tables(&self) -> bool {
        self.frees_tables && !bug::armed(Bug::TablesFreedEarly)
    }

    /// Adds a range.
    #[inline(always)]
    pub fn push(&mut self, range: PageRange) {
        self.pages = self.pages.saturating_add(range.pages);
        if self.listed.try_push(range).is_err() {
            self.too_many = true;
        }
    }

    /// Above how many pages it means everything.
    #[must_use]
    pub const fn ceiling(&self) -> u32 {
        self.ceiling
    }

    /// Pages in all.
    #[must_use]
    pub const fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether there is nothing to flush.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pages == 0 && !self.frees_tables
    }

    /// The ranges, or `None` if the request means everything.
    #[must_use]
    pub fn listed(&self) -> Option<&[PageRange]> {
        let everything = self.too_many || self.pages > self.ceiling || self.pages == u32::MAX;
        (!everything).then_some(&self.listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_request_never_leaves_a_page_out(ceiling in 0u32..40, ranges in prop::collection::vec((0u64..1000, 1u32..9), 0..30)) {
            let mut request = Ranges::new(ceiling);
            for (page, pages) in &ranges {
                request.push(PageRange { start: page * PAGE_SIZE, pages: *pages });
            }
            let asked: Vec<u64> = ranges.iter().flat_map(|(p, n)| PageRange { start: p * PAGE_SIZE, pages: *n }.addresses()).collect();
            match request.listed() {
                None => prop_assert!(request.pages() > ceiling || ranges.len() > MAX_RANGES),
                Some(listed) => prop_assert_eq!(listed.iter().flat_map(|r| r.addresses()).collect::<Vec<_>>(), asked),
            }
        }
    }
}
