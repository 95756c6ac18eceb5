/// The traffic that a proxy has seen, and the faults that have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Accepted connections.
    pub connections: u64,
    /// Reads from clients that returned data.
    pub requests: u64,
    /// Reads from the server that returned data.
    pub replies: u64,
    /// Bytes read from clients.
    pub request_bytes: u64,
    /// Bytes read from the server.
    pub reply_bytes: u64,
    /// Requests and replies that were delayed.
    pub delayed: u64,
    /// Requests and replies that were dropped in a black hole.
    pub swallowed: u64,
    /// Forgotten connections that were used again.
    pub forgotten: u64,
    /// Connections that were cut before a request.
    pub cut_before: u64,
    /// Connections that were cut after a request was answered.
    pub cut_after: u64,
    /// Connections that were cut at a limit.
    pub limited: u64,
    /// Connections that were cut by `cut_all`.
    pub cut_all: u64,
}
