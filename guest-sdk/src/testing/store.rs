//! Key-value storage in memory, with a clock that only the test advances.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kv::Error;

#[derive(Debug)]
pub(crate) struct Store {
    entries: BTreeMap<String, Entry>,
    now: Duration,
    granted: bool,
    /// Number of the next swaps that fail as if another call had changed the value.
    rivals: u32,
}

#[derive(Debug)]
struct Entry {
    value: Vec<u8>,
    ends: Option<Duration>,
}

impl Default for Store {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), now: Duration::ZERO, granted: true, rivals: 0 }
    }
}

impl Store {
    pub(super) fn refuse(&mut self) {
        self.granted = false;
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.now += span;
        let now = self.now;
        self.entries.retain(|_, entry| entry.ends.is_none_or(|ends| ends > now));
    }

    pub(super) fn contend(&mut self, rivals: u32) {
        self.rivals = rivals;
    }

    /// Returns the value of a key, also without a grant.
    pub(super) fn peek(&self, key: &str) -> Option<Vec<u8>> {
        self.entries.get(key).map(|entry| entry.value.clone())
    }

    pub(super) fn put(&mut self, key: &str, value: &[u8], ttl: Option<Duration>) {
        let ends = ttl.map(|ttl| self.now.saturating_add(ttl));
        self.entries.insert(key.to_owned(), Entry { value: value.to_owned(), ends });
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.admit(key)?;
        Ok(self.peek(key))
    }

    pub(crate) fn set(
        &mut self,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<(), Error> {
        self.admit(key)?;
        self.put(key, value, ttl);
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &str) -> Result<bool, Error> {
        self.admit(key)?;
        Ok(self.entries.remove(key).is_some())
    }

    pub(crate) fn increment(
        &mut self,
        key: &str,
        by: i64,
        ttl: Option<Duration>,
    ) -> Result<i64, Error> {
        self.admit(key)?;
        let Some(entry) = self.entries.get_mut(key) else {
            self.put(key, by.to_string().as_bytes(), ttl);
            return Ok(by);
        };
        let number = str::from_utf8(&entry.value).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.and_then(|number| number.checked_add(by)).ok_or(Error::NotANumber)?;
        entry.value = sum.to_string().into_bytes();
        Ok(sum)
    }

    pub(crate) fn compare_and_swap(
        &mut self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, Error> {
        self.admit(key)?;
        if let Some(left) = self.rivals.checked_sub(1) {
            self.rivals = left;
            return Ok(false);
        }
        let same = self.peek(key).as_deref() == expected;
        if same {
            self.put(key, value, ttl);
        }
        Ok(same)
    }

    fn admit(&self, key: &str) -> Result<(), Error> {
        if !self.granted {
            return Err(Error::NotGranted);
        }
        if key.is_empty() {
            return Err(Error::TooLarge("the key is empty".to_owned()));
        }
        Ok(())
    }
}
