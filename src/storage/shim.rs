use super::*;
pub(crate) type Pages<'a> = &'a Storage;
impl Storage {
    pub(crate) fn in_file(&self) -> u64 {
        self.offset()
    }
    pub(crate) fn are_of_file(&self) -> bool {
        self.is_of_file()
    }
    pub(crate) fn tell_presence(&self) -> bool {
        self.reports_residency()
    }
    pub(crate) fn are_absent(&self, r: Range<usize>) -> bool {
        self.is_absent(r)
    }
    pub(crate) fn look_present(&self) -> bool {
        self.seems_present()
    }
    pub(crate) fn can_be_written_by_calls(&self) -> bool {
        self.can_write_at()
    }
    pub(crate) fn read_at_shows_memory(&self) -> bool {
        self.can_read_at()
    }
    pub(crate) fn read_ahead(&self) -> Option<PrefetchSource> {
        self.prefetch_source()
    }
}
impl<'a> FileWriter<'a> {
    pub(crate) fn pages(self) -> &'a Storage {
        self.storage()
    }
}
