//! What stands in the book of alerts of a store, read beside the daemons, and programs that have
//! something to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpulock::core::alert::Urgency;
use gpulock::core::{PoolName, Raised};
use gpulock::store::{DocumentName, DocumentNews, Store};
use gpulock::{Client, Options, connect};
use gpulock_alerts::Desk;
use gpulock_alerts::book::{Acknowledgement, AlertView, Letter, Sums};
use gpulock_alerts::plan::Plan;
use tokio::runtime::Runtime;

/// A store and its book.
pub(super) struct Ledger {
    runtime: Runtime,
    store: Arc<dyn Store>,
    desk: Desk,
}

impl Ledger {
    pub(super) fn of(url: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = {
            let _on = runtime.enter();
            connect(url).unwrap()
        };
        let desk = Desk::new(Arc::clone(&store));
        Self { runtime, store, desk }
    }

    /// The alerts, those that fire first.
    pub(super) fn alerts(&self) -> Vec<AlertView> {
        let (book, now) = self.runtime.block_on(self.desk.read()).unwrap();
        book.view(now, &Plan::default())
    }

    /// The one alert of a rule.
    #[track_caller]
    pub(super) fn alert(&self, rule: &str) -> AlertView {
        let mut found = self.alerts();
        found.retain(|alert| alert.name == rule);
        assert_eq!(found.len(), 1, "{rule} in {:#?}", self.alerts());
        found.remove(0)
    }

    /// Whether an alert of a rule stands there, and has this status.
    pub(super) fn has(&self, rule: &str, status: &str) -> bool {
        self.alerts().iter().any(|alert| alert.name == rule && alert.status == status)
    }

    /// Messages that are on their way or were given up.
    pub(super) fn letters(&self) -> Vec<Letter> {
        let (book, _) = self.runtime.block_on(self.desk.read()).unwrap();
        book.letters().map(|(_, letter)| letter.clone()).collect()
    }

    pub(super) fn sums(&self) -> Sums {
        let (book, _) = self.runtime.block_on(self.desk.read()).unwrap();
        book.sums().clone()
    }

    /// How often the book was written.
    pub(super) fn version(&self) -> u64 {
        let name: DocumentName = "alerts".parse().unwrap();
        match self.runtime.block_on(self.store.document_since(&name, 0)).unwrap() {
            DocumentNews::Changed(document) => document.version,
            DocumentNews::Unchanged { .. } => 0,
        }
    }

    /// Somebody has the alerts of a rule in hand.
    pub(super) fn acknowledge(&self, rule: &str) {
        let word =
            |at| Acknowledgement { by: "operator".to_owned(), at, note: "I look".to_owned() };
        for alert in self.alerts().iter().filter(|alert| alert.name == rule) {
            let step = self.desk.step(|book, now| book.acknowledge(&alert.id, word(now)));
            self.runtime.block_on(step).unwrap().unwrap();
        }
    }

    /// A program raises an alert in its own words.
    pub(super) fn raise(&self, name: &str, message: &str) {
        let client = self.client(PoolName::default());
        self.runtime.block_on(client.raise(raised(name, message), None));
    }

    /// Many programs raise alerts at once: `each` of every one of `names`, in every pool.
    pub(super) fn storm(&self, pools: &[String], names: &[&str], each: usize) {
        let programs = pools.iter().map(|pool| {
            let client = self.client(pool.parse().unwrap());
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            async move {
                for _ in 0..each {
                    for name in &names {
                        client.raise(raised(name, "again"), None).await;
                    }
                }
            }
        });
        let programs: Vec<_> = programs.map(|program| self.runtime.spawn(program)).collect();
        programs.into_iter().for_each(|program| self.runtime.block_on(program).unwrap());
    }

    fn client(&self, pool: PoolName) -> Client {
        let options =
            Options { pool, gpus: Some(vec!["0".parse().unwrap()]), ..Options::default() };
        let builder = Client::builder(Arc::clone(&self.store)).options(options);
        builder.on(self.runtime.handle().clone()).build().unwrap()
    }
}

fn raised(name: &str, message: &str) -> Raised {
    Raised {
        name: name.parse().unwrap(),
        urgency: Urgency::P1,
        message: message.to_owned(),
        facts: BTreeMap::new(),
    }
}
