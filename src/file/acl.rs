//! Access control lists as Linux stores them: pure arithmetic, on bytes that cannot be trusted.

/// The access control list of one file, by the rules of POSIX.1e.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    /// Read, write and execute: three bits.
    permissions: u16,
    /// The number of the named user or group.
    id: u32,
}

const VERSION: u32 = 2;
const ALL: u16 = 0o7;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
/// The upper bound of what named users and all groups get. In the mode of a file that has a list, it takes the place of the
/// group's permissions.
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

impl Acl {
    /// `None` if `bytes` are not a valid list.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let acl = Self(entries.iter().map(|&entry| Entry::from_bytes(entry)).collect());
        let count = |tag| acl.of(tag).count();
        let whole = [OWNER, OWNING_GROUP, OTHERS].iter().all(|&tag| count(tag) == 1);
        let named = count(USER) + count(GROUP);
        let known = 3 + named + count(MASK) == acl.0.len() && acl.0.iter().all(|entry| entry.permissions <= ALL);
        let masked = count(MASK) == 1 || (count(MASK) == 0 && named == 0);
        (whole && known && masked).then_some(acl)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let entries = self.0.iter().flat_map(|entry| entry.to_bytes());
        VERSION.to_le_bytes().into_iter().chain(entries).collect()
    }

    /// Returns the list for a file whose group is another, unknown one, and gets nothing. Members of the previous group
    /// count as others now, and get no more than before.
    pub(super) fn without_group(&self) -> Self {
        let group = self.permissions(OWNING_GROUP);
        Self(
            self.0
                .iter()
                .map(|&entry| match entry.tag {
                    OWNING_GROUP => Entry { permissions: 0, ..entry },
                    OTHERS => Entry { permissions: entry.permissions & group, ..entry },
                    _ => entry,
                })
                .collect(),
        )
    }

    /// Returns a mode without a list that gives nobody more than this list does. Users and groups that the list names
    /// count as the group or as others there.
    pub(super) fn mode(&self) -> u32 {
        let users = self.permissions(USER);
        let group = self.permissions(OWNING_GROUP) & users;
        let others = self.permissions(OTHERS) & users & self.permissions(GROUP);
        u32::from(self.permissions(OWNER)) << 6 | u32::from(group) << 3 | u32::from(others)
    }

    fn of(&self, tag: u16) -> impl Iterator<Item = u16> {
        self.0.iter().filter(move |entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    /// Returns the permissions that every entry with this tag gives, after the mask.
    fn permissions(&self, tag: u16) -> u16 {
        let own = self.of(tag).fold(ALL, |all, permissions| all & permissions);
        match tag {
            OWNING_GROUP => own & self.permissions(MASK),
            USER | GROUP if self.of(tag).next().is_some() => own & self.permissions(MASK),
            _ => own,
        }
    }
}

impl Entry {
    fn from_bytes([t0, t1, p0, p1, id @ ..]: [u8; 8]) -> Self {
        Self {
            tag: u16::from_le_bytes([t0, t1]),
            permissions: u16::from_le_bytes([p0, p1]),
            id: u32::from_le_bytes(id),
        }
    }

    fn to_bytes(self) -> [u8; 8] {
        let ([t0, t1], [p0, p1], [i0, i1, i2, i3]) =
            (self.tag.to_le_bytes(), self.permissions.to_le_bytes(), self.id.to_le_bytes());
        [t0, t1, p0, p1, i0, i1, i2, i3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u16, permissions: u16, id: u32) -> Entry {
        Entry { tag, permissions, id }
    }

    /// A list of the three entries that every list has, with `named` in between.
    fn list(owner: u16, group: u16, others: u16, named: &[Entry]) -> Acl {
        let ends = [entry(OWNER, owner, u32::MAX), entry(OWNING_GROUP, group, u32::MAX)];
        Acl([&ends[..], named, &[entry(OTHERS, others, u32::MAX)]].concat())
    }

    const SIMON: u32 = 0x0102_0304;

    #[test]
    fn a_list_is_read_and_written_by_its_published_layout() {
        let bytes = [
            2, 0, 0, 0, //
            1, 0, 6, 0, 255, 255, 255, 255, //
            2, 0, 4, 0, 4, 3, 2, 1, //
            4, 0, 0, 0, 255, 255, 255, 255, //
            16, 0, 4, 0, 255, 255, 255, 255, //
            32, 0, 0, 0, 255, 255, 255, 255,
        ];
        let acl = Acl::from_bytes(&bytes).unwrap();
        assert_eq!(acl.0[1], entry(USER, 4, SIMON));
        assert_eq!(acl.to_bytes(), bytes);
        // No proper prefix is a valid list.
        assert!((0..bytes.len()).all(|len| Acl::from_bytes(&bytes[..len]).is_none()));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let read = |acl: Acl| Acl::from_bytes(&acl.to_bytes());
        let mask = entry(MASK, 7, u32::MAX);
        assert!(read(list(6, 4, 0, &[])).is_some());
        assert!(read(list(6, 4, 0, &[mask])).is_some());
        for refused in [
            list(8, 4, 0, &[]),
            list(6, 4, 0, &[mask, mask]),
            list(6, 4, 0, &[entry(USER, 4, SIMON)]),
            list(6, 4, 0, &[entry(GROUP, 4, SIMON)]),
            list(6, 4, 0, &[entry(0x40, 4, SIMON)]),
            list(6, 4, 0, &[entry(OWNER, 4, SIMON)]),
            Acl(Vec::new()),
        ] {
            assert_eq!(read(refused), None);
        }
        let mut other_version = list(6, 4, 0, &[]).to_bytes();
        other_version[0] = 3;
        assert_eq!(Acl::from_bytes(&other_version), None);
    }

    #[test]
    fn without_a_list_nobody_gets_what_it_kept_from_them() {
        let (user, group) = (|p| entry(USER, p, SIMON), |p| entry(GROUP, p, SIMON));
        let mask = |p| entry(MASK, p, u32::MAX);
        for (acl, mode) in [
            (list(6, 4, 0, &[]), 0o640),
            (list(6, 0, 0, &[user(6), mask(6)]), 0o600),
            (list(6, 6, 0, &[user(6), mask(4)]), 0o640),
            (list(6, 6, 4, &[user(0), mask(6)]), 0o600),
            (list(6, 6, 4, &[user(6), user(4), mask(6)]), 0o644),
            (list(6, 6, 4, &[group(0), mask(6)]), 0o660),
            (list(6, 6, 6, &[group(6), mask(4)]), 0o644),
            (list(6, 6, 6, &[mask(4)]), 0o646),
        ] {
            assert_eq!(acl.mode(), mode, "{acl:?}");
        }
    }

    #[test]
    fn in_another_group_nobody_gets_what_the_old_one_had_or_had_not() {
        let named = [entry(USER, 6, SIMON), entry(GROUP, 4, SIMON), entry(MASK, 6, u32::MAX)];
        assert_eq!(list(6, 6, 4, &named).without_group(), list(6, 0, 4, &named));
        assert_eq!(list(6, 4, 6, &named).without_group(), list(6, 0, 4, &named));
        assert_eq!(list(6, 0, 4, &named).without_group(), list(6, 0, 0, &named));
    }
}
