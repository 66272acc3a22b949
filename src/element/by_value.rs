//! What wrappers have in common: they are made from a value, compared and shown as it is.

/// Implements the traits of values for `$wrapper<T>`, which has `new` and `get`.
macro_rules! by_value {
    ($wrapper:ident<T: $bound:path>) => {
        impl<T: $bound> Clone for $wrapper<T> {
            #[inline(always)]
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T: $bound> Copy for $wrapper<T> {}

        impl<T: $bound> From<T> for $wrapper<T> {
            #[inline(always)]
            fn from(value: T) -> Self {
                Self::new(value)
            }
        }

        impl<T: $bound + Default> Default for $wrapper<T> {
            fn default() -> Self {
                Self::new(T::default())
            }
        }

        impl<T: $bound + PartialEq> PartialEq for $wrapper<T> {
            #[inline(always)]
            fn eq(&self, other: &Self) -> bool {
                self.get() == other.get()
            }
        }

        impl<T: $bound + PartialEq> PartialEq<T> for $wrapper<T> {
            #[inline(always)]
            fn eq(&self, other: &T) -> bool {
                self.get() == *other
            }
        }

        impl<T: $bound + Eq> Eq for $wrapper<T> {}

        // Each operator is the value's own: one comparison where `partial_cmp` has two.
        impl<T: $bound + PartialOrd> PartialOrd for $wrapper<T> {
            #[inline(always)]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                self.get().partial_cmp(&other.get())
            }
            #[inline(always)]
            fn lt(&self, other: &Self) -> bool {
                self.get() < other.get()
            }
            #[inline(always)]
            fn le(&self, other: &Self) -> bool {
                self.get() <= other.get()
            }
            #[inline(always)]
            fn gt(&self, other: &Self) -> bool {
                self.get() > other.get()
            }
            #[inline(always)]
            fn ge(&self, other: &Self) -> bool {
                self.get() >= other.get()
            }
        }

        impl<T: $bound + Ord> Ord for $wrapper<T> {
            #[inline(always)]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.get().cmp(&other.get())
            }
        }

        impl<T: $bound + std::hash::Hash> std::hash::Hash for $wrapper<T> {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.get().hash(state);
            }
        }

        impl<T: $bound + std::fmt::Debug> std::fmt::Debug for $wrapper<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.get().fmt(f)
            }
        }

        impl<T: $bound + std::fmt::Display> std::fmt::Display for $wrapper<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.get().fmt(f)
            }
        }
    };
}
pub(super) use by_value;
