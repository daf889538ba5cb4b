//! A thread that scrapes: a runtime of its own, and a task for each of its targets.

use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::scraper::{Mailbox, Order, Scraper, Surroundings};
use super::state::Entry;

/// What a thread is told.
pub(super) enum Command {
    Add(Arc<Entry>),
    /// The target of this id goes on as another.
    Replace(u64, Arc<Entry>),
    End(u64),
    Stop,
}

/// A thread that runs.
pub(super) struct ScrapeThread {
    commands: UnboundedSender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl ScrapeThread {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(number: usize, around: Surroundings) -> std::io::Result<Self> {
        let (commands, told) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(format!("scrape-{number}"))
            .spawn(move || runtime.block_on(run(told, around)))?;
        Ok(ScrapeThread { commands, thread })
    }

    pub(super) fn tell(&self, command: Command) {
        if self.commands.send(command).is_err() {
            log::error!("a scraping thread is gone");
        }
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            log::error!("a scraping thread panicked");
        }
    }
}

async fn run(mut told: UnboundedReceiver<Command>, around: Surroundings) {
    let mut mailboxes: HashMap<u64, Arc<Mailbox>> = HashMap::new();
    while let Some(command) = told.recv().await {
        match command {
            Command::Add(entry) => {
                let mailbox = Arc::new(Mailbox::default());
                mailboxes.insert(entry.id, mailbox.clone());
                let scraper = Scraper::new(entry, around.clone());
                tokio::spawn(scraper.run(mailbox));
            }
            Command::Replace(id, entry) => {
                if let Some(mailbox) = mailboxes.remove(&id) {
                    mailboxes.insert(entry.id, mailbox.clone());
                    mailbox.put(Order::Become(entry));
                }
            }
            Command::End(id) => {
                if let Some(mailbox) = mailboxes.remove(&id) {
                    mailbox.put(Order::End);
                }
            }
            // The tasks are dropped with the runtime: nothing ends because we stop.
            Command::Stop => return,
        }
    }
}
