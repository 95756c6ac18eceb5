use std::{
    fmt::{self, Debug, Formatter},
    time::Duration,
};

/// The direction of a data flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From clients to the server.
    Requests,
    /// From the server to clients.
    Replies,
}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// This many times.
    Next(u32),
    /// Until the proxy is healed.
    Always,
}

/// Whether a connection is cut before or after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Before,
    After,
}

/// What is done with bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pass,
    Swallow,
    /// Drop them and cut the connection.
    CutBefore,
    /// Pass them, and cut the connection when they were answered.
    CutAfter,
    /// Pass this many bytes, and cut the connection.
    Tear(usize),
}

/// The faults that are configured and have not ended.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    /// How long a connection may be idle before it is forgotten.
    pub(super) idle_limit: Option<Duration>,
    swallowed: Vec<Flow>,
    limits: Vec<Limit>,
    cuts: Vec<Cut>,
}

#[derive(Debug)]
struct Limit {
    flow: Flow,
    bytes: usize,
}

type Matches = dyn Fn(&[u8]) -> bool + Send;

struct Cut {
    point: Point,
    matches: Box<Matches>,
    times: Times,
}

impl Faults {
    pub(super) fn swallow(&mut self, flow: Flow) {
        self.swallowed.push(flow);
    }

    pub(super) fn limit(&mut self, flow: Flow, bytes: usize) {
        self.limits.push(Limit { flow, bytes });
    }

    pub(super) fn cut<M>(&mut self, point: Point, matches: M, times: Times)
    where
        M: Fn(&[u8]) -> bool + Send + 'static,
    {
        let matches = Box::new(matches);
        self.cuts.push(Cut { point, matches, times });
    }

    pub(super) fn heal(&mut self) {
        *self = Self::default();
    }

    /// Decides what to do with bytes that were read, and consumes the fault that applies to them.
    pub(super) fn decide(&mut self, flow: Flow, bytes: &[u8]) -> Action {
        let cut = match flow {
            Flow::Requests => self.cuts.iter_mut().find(|cut| cut.applies_to(bytes)),
            Flow::Replies => None,
        };
        match cut.map(Cut::consume) {
            Some(Point::Before) => return Action::CutBefore,
            Some(Point::After) => return Action::CutAfter,
            None => {}
        }
        if let Some(left) = self.tear(flow, bytes.len()) {
            return Action::Tear(left);
        }
        if self.swallowed.contains(&flow) {
            return Action::Swallow;
        }
        Action::Pass
    }

    /// Subtracts `length` from the limit. If the limit is exceeded, removes it and returns how many
    /// bytes still pass.
    fn tear(&mut self, flow: Flow, length: usize) -> Option<usize> {
        let index = self.limits.iter().position(|limit| limit.flow == flow)?;
        let limit = &mut self.limits[index];
        match limit.bytes.checked_sub(length) {
            Some(left) => limit.bytes = left,
            None => return Some(self.limits.remove(index).bytes),
        }
        None
    }
}

impl Cut {
    fn applies_to(&self, bytes: &[u8]) -> bool {
        self.times != Times::Next(0) && (self.matches)(bytes)
    }

    fn consume(&mut self) -> Point {
        if let Times::Next(times) = &mut self.times {
            *times -= 1;
        }
        self.point
    }
}

impl Debug for Cut {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { point, times, .. } = self;
        write!(formatter, "Cut {{ {point:?}, {times:?} }}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_happens_as_often_as_configured() {
        let mut faults = Faults::default();
        faults.cut(Point::Before, |bytes| bytes == b"a", Times::Next(2));
        let actions: Vec<Action> =
            [&b"a"[..], b"b", b"a", b"a"].map(|bytes| faults.decide(Flow::Requests, bytes)).into();
        let expected = [Action::CutBefore, Action::Pass, Action::CutBefore, Action::Pass];
        assert_eq!(actions, expected);
    }

    #[test]
    fn a_reply_that_looks_like_a_request_is_not_cut() {
        let mut faults = Faults::default();
        faults.cut(Point::Before, |_| true, Times::Always);
        assert_eq!(faults.decide(Flow::Replies, b"a"), Action::Pass);
    }

    #[test]
    fn a_limit_tears_the_first_message_that_exceeds_it_and_no_other() {
        let mut faults = Faults::default();
        faults.limit(Flow::Replies, 5);
        assert_eq!(faults.decide(Flow::Requests, b"abcdef"), Action::Pass);
        assert_eq!(faults.decide(Flow::Replies, b"abc"), Action::Pass);
        assert_eq!(faults.decide(Flow::Replies, b"abc"), Action::Tear(2));
        assert_eq!(faults.decide(Flow::Replies, b"abcdef"), Action::Pass);
    }

    #[test]
    fn a_message_that_just_meets_the_limit_passes() {
        let mut faults = Faults::default();
        faults.limit(Flow::Requests, 3);
        assert_eq!(faults.decide(Flow::Requests, b"abc"), Action::Pass);
        assert_eq!(faults.decide(Flow::Requests, b"a"), Action::Tear(0));
    }
}
