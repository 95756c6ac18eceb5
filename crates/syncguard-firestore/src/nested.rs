//! Locks below other documents, where no query over their collection finds them.

use std::sync::Arc;

use syncguard_core::Timestamp;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{
    client::{Call, Client, Document, Read},
    error::Failure,
    names::Layout,
};

/// The number of documents in a page of a scan.
const PAGE_SIZE: usize = 300;

/// A document below another one, and when it was read by the server's clock.
pub(crate) struct Nested {
    pub(crate) document: Document,
    pub(crate) at: Timestamp,
}

/// The last scan of a runtime.
#[derive(Default)]
pub(crate) struct Scans(Arc<Mutex<Option<Scan>>>);

struct Scan {
    started_at: Instant,
    nested: Arc<Vec<Nested>>,
}

impl Scans {
    /// Reads all nested documents by reading everything in the collection: a query can select them
    /// neither by their depth nor by their fields.
    ///
    /// Scans run one at a time and are shared, so that many concurrent lookups of lost locks read
    /// the collection once or twice. A caller uses only a scan that started after its call. The
    /// scan is a task, so a caller that is no longer polled blocks no other.
    pub(crate) async fn read(
        &self,
        client: &Arc<Client>,
        layout: &Layout,
        call: Call,
    ) -> Result<Arc<Vec<Nested>>, Failure> {
        let requested_at = Instant::now();
        let last = self.0.clone();
        let (client, layout) = (client.clone(), layout.clone());
        let scan = tokio::spawn(async move {
            let mut last = last.lock().await;
            if let Some(scan) = &*last
                && scan.started_at > requested_at
            {
                return Ok(scan.nested.clone());
            }
            let started_at = Instant::now();
            let nested = Arc::new(scan(&client, &layout, call).await?);
            *last = Some(Scan { started_at, nested: nested.clone() });
            Ok(nested)
        });
        let ended = |_| Failure::NoRuntime;
        match timeout(call.deadline.remaining(), scan).await {
            Ok(scanned) => scanned.map_err(ended)?,
            Err(_) => Err(Failure::late()),
        }
    }
}

async fn scan(client: &Client, layout: &Layout, call: Call) -> Result<Vec<Nested>, Failure> {
    let (mut nested, mut last) = (Vec::new(), None);
    loop {
        let Read { at, found } = client.descendants(call, last.as_ref(), PAGE_SIZE).await?;
        let full = found.len() >= PAGE_SIZE;
        last = found.last().map(|document| document.name.clone());
        let below = found.into_iter().filter(|document| layout.is_nested(&document.name));
        nested.extend(below.map(|document| Nested { document, at }));
        if !full {
            return Ok(nested);
        }
    }
}
