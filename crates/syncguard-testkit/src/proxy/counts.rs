/// What a proxy has seen, and the faults that it made happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Clients that were connected.
    pub connections: u64,
    /// Reads that gave something from a client.
    pub requests: u64,
    /// Reads that gave something from the server.
    pub replies: u64,
    /// Bytes read from clients.
    pub request_bytes: u64,
    /// Bytes read from the server.
    pub reply_bytes: u64,
    /// Requests and replies that were held back.
    pub delayed: u64,
    /// Requests and replies that vanished in a black hole.
    pub swallowed: u64,
    /// Connections that were used again after they had been forgotten.
    pub forgotten: u64,
    /// Connections that were cut before a request.
    pub cut_before: u64,
    /// Connections that were cut after a request was answered.
    pub cut_after: u64,
    /// Connections that were cut at a limit.
    pub limited: u64,
    /// Connections that were cut together with all others.
    pub cut_all: u64,
}
