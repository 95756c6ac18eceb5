use std::{
    fmt::{self, Debug, Formatter},
    time::Duration,
};

/// A direction.
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
    /// This often, and then no more.
    Next(u32),
    /// Until the proxy is healed.
    Always,
}

/// On which side of a request a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Before,
    After,
}

/// What is done with something that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Swallow,
    /// Cut the connection instead.
    CutBefore,
    /// Pass it, and cut the connection when it was answered.
    CutAfter,
    /// Pass this much of it, and cut the connection.
    Tear(usize),
}

/// The faults that were asked for and have not happened, or go on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) delay: Duration,
    /// How long a connection may be idle until it is forgotten.
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

    /// Decides about something that was read, and remembers what happened thereby.
    pub(super) fn judge(&mut self, flow: Flow, bytes: &[u8]) -> Verdict {
        let cut = match flow {
            Flow::Requests => self.cuts.iter_mut().find(|cut| cut.fits(bytes)),
            Flow::Replies => None,
        };
        match cut.map(Cut::happen) {
            Some(Point::Before) => return Verdict::CutBefore,
            Some(Point::After) => return Verdict::CutAfter,
            None => {}
        }
        if let Some(left) = self.tear(flow, bytes.len()) {
            return Verdict::Tear(left);
        }
        if self.swallowed.contains(&flow) {
            return Verdict::Swallow;
        }
        Verdict::Pass
    }

    /// Uses the limit up. One that does not suffice says how much still passes, and is gone.
    fn tear(&mut self, flow: Flow, length: usize) -> Option<usize> {
        let place = self.limits.iter().position(|limit| limit.flow == flow)?;
        let limit = &mut self.limits[place];
        match limit.bytes.checked_sub(length) {
            Some(left) => limit.bytes = left,
            None => return Some(self.limits.remove(place).bytes),
        }
        None
    }
}

impl Cut {
    fn fits(&self, bytes: &[u8]) -> bool {
        self.times != Times::Next(0) && (self.matches)(bytes)
    }

    fn happen(&mut self) -> Point {
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
    fn a_cut_happens_as_often_as_it_was_asked_for() {
        let mut faults = Faults::default();
        faults.cut(Point::Before, |bytes| bytes == b"a", Times::Next(2));
        let verdicts: Vec<Verdict> =
            [&b"a"[..], b"b", b"a", b"a"].map(|bytes| faults.judge(Flow::Requests, bytes)).into();
        let expected = [Verdict::CutBefore, Verdict::Pass, Verdict::CutBefore, Verdict::Pass];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn a_reply_that_looks_like_a_request_is_not_cut() {
        let mut faults = Faults::default();
        faults.cut(Point::Before, |_| true, Times::Always);
        assert_eq!(faults.judge(Flow::Replies, b"a"), Verdict::Pass);
    }

    #[test]
    fn a_limit_tears_once_what_exceeds_it() {
        let mut faults = Faults::default();
        faults.limit(Flow::Replies, 5);
        assert_eq!(faults.judge(Flow::Requests, b"abcdef"), Verdict::Pass);
        assert_eq!(faults.judge(Flow::Replies, b"abc"), Verdict::Pass);
        assert_eq!(faults.judge(Flow::Replies, b"abc"), Verdict::Tear(2));
        assert_eq!(faults.judge(Flow::Replies, b"abcdef"), Verdict::Pass);
    }

    #[test]
    fn a_limit_that_is_just_met_lets_all_pass() {
        let mut faults = Faults::default();
        faults.limit(Flow::Requests, 3);
        assert_eq!(faults.judge(Flow::Requests, b"abc"), Verdict::Pass);
        assert_eq!(faults.judge(Flow::Requests, b"a"), Verdict::Tear(0));
    }
}
