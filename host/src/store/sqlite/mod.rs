//! The embedded store: one SQLite file in the data folder, in write-ahead mode,
//! with a thread that writes and two that read. `journal.sync = "full"` waits for
//! the disk with every transaction; `"normal"` leaves that to the system, so that a
//! loss of power (not the end of the process) can cost the last moments.

mod calls;
mod checkpoint;
mod erase;
mod file;
mod journal;
mod kv;
mod reader;
mod schema;
mod state;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use self::journal::Append;
use self::reader::Reader;
use self::state::State;
use self::tail::Tail;
use self::writer::Writer;
use super::erase::{CallName, Erased};
use super::{
    DeadLetter, DeadLetters, Debt, Figures, KvAnswer, KvCommand, KvError, Observers, Page, Pending,
    Progress, Selection, Seq, Store, StoreError, Stored, UnixMs, Upkeep, Writes, now,
};
use crate::config::JournalConfig;

/// See the [module](self).
pub struct Sqlite {
    writer: Writer,
    /// For observers, which read much.
    pages: Reader,
    /// For guests and calls, who wait.
    values: Reader,
    shared: Arc<Shared>,
    /// Bytes of one plugin's values.
    kv_most: usize,
}

/// What the threads share.
struct Shared {
    path: PathBuf,
    config: JournalConfig,
    tail: Tail,
    trouble: ArcSwapOption<StoreError>,
}

impl Shared {
    fn set_trouble(&self, trouble: Option<StoreError>) {
        if trouble.is_some() || self.trouble.load().is_some() {
            self.trouble.store(trouble.map(Arc::new));
        }
    }
}

impl Sqlite {
    /// Starts the threads. That the file cannot be used now is no error: it is
    /// tried again with whatever is asked for. `kv_most` bounds the values of one
    /// plugin, in bytes. Within a runtime only.
    ///
    /// # Errors
    ///
    /// When the system gives no threads.
    pub fn start(data: &Path, config: JournalConfig, kv_most: usize) -> anyhow::Result<Self> {
        let path = file::path(data);
        let state = State::new(config.keep);
        let trouble = ArcSwapOption::empty();
        let shared = Arc::new(Shared { path: path.clone(), config, tail: Tail::new(), trouble });
        let start = || {
            let writer = Writer::start(Arc::clone(&shared), state)?;
            let pages = Reader::start("store-pages", path.clone())?;
            Ok::<_, std::io::Error>((writer, pages, Reader::start("store-values", path)?))
        };
        let (writer, pages, values) = start().context("cannot start threads for the store")?;
        Ok(Self { writer, pages, values, shared, kv_most })
    }

    /// The file in a data folder, whether it is there or not.
    pub fn file(data: &Path) -> PathBuf {
        file::path(data)
    }
}

impl Store for Sqlite {
    fn append(&self, writes: Writes, debt: Debt) -> Pending<usize> {
        let (reply, answer) = oneshot::channel();
        let append = Append { writes, debt, new: Ok(0), reply };
        self.writer.send(Box::new(append), answer)
    }

    fn read(&self, after: Seq, most: usize) -> Pending<Page> {
        match self.shared.tail.read(after, most) {
            Some(page) => Box::pin(async { Ok(page) }),
            None => {
                let last = *self.shared.tail.last().borrow();
                self.pages.ask(move |db| journal::read(db, after, most, last))
            }
        }
    }

    fn find(&self, seqs: Vec<Seq>) -> Pending<Vec<Arc<Stored>>> {
        self.pages.ask(move |db| journal::find(db, &seqs))
    }

    fn last(&self) -> watch::Receiver<Seq> {
        self.shared.tail.last()
    }

    fn observers(&self) -> Pending<Observers> {
        // By the writer, which makes the file if it is missing.
        self.writer.ask(|work| {
            let known = journal::observers(work.db)?;
            Ok(Observers { known, last_before: work.state.last_before() })
        })
    }

    fn save(&self, observer: Arc<str>, progress: Progress) -> Pending<()> {
        self.writer.ask(move |work| journal::save(work.db, &observer, &progress))
    }

    fn forget(&self, observer: String) -> Pending<()> {
        self.writer.ask(move |work| journal::forget(work.db, &observer))
    }

    fn bury(&self, letter: DeadLetter, event: Arc<Stored>) -> Pending<()> {
        self.writer.ask(move |work| journal::bury(work, &letter, &event.event))
    }

    fn dead(&self, selection: Selection) -> Pending<DeadLetters> {
        self.pages.ask(move |db| journal::dead(db, &selection))
    }

    fn revive(&self, selection: Selection) -> Pending<u64> {
        self.writer.ask(move |work| journal::revive(work, &selection, now()))
    }

    fn discard(&self, selection: Selection) -> Pending<u64> {
        self.writer.ask(move |work| journal::discard(work, &selection))
    }

    fn expire(&self, key: String, until: UnixMs) -> Pending<()> {
        self.writer.ask(move |work| calls::set_expiry(work.db, &key, until))
    }

    fn recall(&self, key: String) -> Pending<Option<String>> {
        self.values.ask(move |db| calls::recall(db, &key, now()))
    }

    fn kv(
        &self,
        namespace: Arc<str>,
        key: String,
        command: KvCommand,
    ) -> Pending<KvAnswer, KvError> {
        if matches!(command, KvCommand::Get) {
            let value = self.values.ask(move |db| kv::get(db, &namespace, &key, now()));
            return Box::pin(async { Ok(KvAnswer::Value(value.await?)) });
        }
        let (most, size) = (self.kv_most, key.len() + command.size());
        let answer = self
            .writer
            .ask_with(size, move |work| kv::command(work, &namespace, &key, command, most, now()));
        Box::pin(async { answer.await? })
    }

    fn erase(&self, call: CallName) -> Pending<Erased> {
        erase::call(self, call)
    }

    fn erase_values(&self, call: Arc<str>) -> Pending<u64> {
        erase::values(self, call)
    }

    fn scrub(&self) -> Pending<()> {
        erase::scrub(self)
    }

    fn tidy(&self, upkeep: Upkeep) -> Pending<Figures> {
        self.writer.ask_for_room(move |work| journal::tidy(work, &upkeep, now()))
    }

    fn trouble(&self) -> Option<StoreError> {
        self.shared.trouble.load().as_deref().cloned()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Before the writer, which is then the last one to have the file open.
            self.pages.close().await;
            self.values.close().await;
            self.writer.close().await;
        })
    }
}
