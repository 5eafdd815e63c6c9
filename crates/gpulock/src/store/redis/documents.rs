//! Documents: a hash each.

use std::sync::LazyLock;

use super::link::Script;
use super::{RedisStore, reply, script};
use crate::store::{DocumentName, DocumentNews, DocumentSwap, StoreError};

static LOOK: LazyLock<Script> = LazyLock::new(|| script(include_str!("document.lua")));

static SWAP: LazyLock<Script> = LazyLock::new(|| script(include_str!("swap_document.lua")));

impl RedisStore {
    pub(super) async fn document_news(
        &self,
        name: &DocumentName,
        known: u64,
    ) -> Result<DocumentNews, StoreError> {
        let mut call = LOOK.call(&[self.keys.document(name)]);
        call.arg(known);
        let answered = self.link.run(&LOOK, call).await?;
        reply::document_news(answered.value, known).map_err(|wrong| self.misread(wrong))
    }

    /// No replica has to confirm it: that replicas are missing is among what has to be written.
    pub(super) async fn write_document(
        &self,
        name: &DocumentName,
        expected: u64,
        text: &str,
    ) -> Result<DocumentSwap, StoreError> {
        let mut call = SWAP.call(&[self.keys.document(name)]);
        call.arg(expected).arg(text);
        let answered = self.link.run(&SWAP, call).await?;
        reply::document_swap(answered.value).map_err(|wrong| self.misread(wrong))
    }
}
