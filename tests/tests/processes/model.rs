//! A model of the queue, the subscription and the announcement, in which a model checker visits
//! every interleaving of a few processes.
//!
//! The model restates what the lock layer and the stores do, in steps that nothing divides: a
//! request is sent, the store decides it, the reply is handled. Faults that are planted in it show
//! that each step is needed.

use std::collections::BTreeSet;

use stateright::{Checker, Model, Property};

/// For how many ticks an announcement stands, and after how many it is renewed.
const ANNOUNCEMENT: u8 = 2;
const RENEWAL: u8 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Writer,
    Reader,
}

/// What is wrong with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A waiter that has subscribed does not ask again.
    NoSecondAttempt,
    /// An announcement ends only when it is withdrawn.
    AnnouncementWithoutEnd,
    /// A waiting writer announces itself once.
    NoRenewal,
    /// A writer that gives up leaves its announcement, which has no end either.
    NoWithdrawal,
    /// The store admits readers while a writer is announced.
    AnnouncementsAreIgnored,
    /// The store admits readers beside a writer.
    ReadersBesideAWriter,
    /// The last reader that leaves notifies no one.
    NoNotification,
    /// A release notifies one of the processes that wait.
    OneIsNotified,
}

/// One task: what it locks, in which process, and how often.
#[derive(Clone, Copy, Debug)]
struct Task {
    process: usize,
    mode: Mode,
    rounds: u8,
    /// Whether it may die, or give up, while it waits.
    is_mortal: bool,
}

struct Protocol {
    tasks: Vec<Task>,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Behind the head of its process, or before its first attempt.
    Queued,
    /// Its request is on its way.
    Attempting {
        announces: bool,
    },
    /// Refused, and not subscribed yet.
    Subscribing,
    /// Refused, and subscribed. A reader that an announcement keeps out waits for its end too.
    Waiting {
        renewal: Option<u8>,
        is_kept_out: bool,
    },
    Holding,
    Ended,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    phases: Vec<Phase>,
    rounds: Vec<u8>,
    /// The tasks that hold the key.
    holders: BTreeSet<usize>,
    /// The writer that is announced, and for how many ticks.
    announcement: Option<(usize, u8)>,
    /// Which processes are subscribed, and which have been notified since they last asked.
    subscribed: Vec<bool>,
    notified: Vec<bool>,
    /// The writers that rely on their announcement: they have announced themselves, and no other
    /// writer was granted the key since, which ends every announcement.
    relying: BTreeSet<usize>,
    /// How many readers were granted the key while a writer relied on its announcement.
    overtakers: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Attempt(usize),
    Decide(usize),
    Subscribe(usize),
    Wake(usize),
    Release(usize),
    Tick,
    Die(usize),
    GiveUp(usize),
}

impl Protocol {
    /// Returns the task whose turn it is in a process: the first that neither holds nor has ended.
    fn head(&self, state: &State, process: usize) -> Option<usize> {
        let tasks = 0..self.tasks.len();
        tasks
            .filter(|task| self.tasks[*task].process == process)
            .find(|task| !matches!(state.phases[*task], Phase::Holding | Phase::Ended))
    }

    fn is_head(&self, state: &State, task: usize) -> bool {
        self.head(state, self.tasks[task].process) == Some(task)
    }

    fn is_writer(&self, task: usize) -> bool {
        self.tasks[task].mode == Mode::Writer
    }

    /// Decides a request as a store does.
    fn decide(&self, state: &mut State, task: usize, announces: bool) {
        let writer_holds = state.holders.iter().any(|holder| self.is_writer(*holder));
        let announced = state.announcement.is_some();
        let is_granted = match self.tasks[task].mode {
            Mode::Writer => state.holders.is_empty(),
            Mode::Reader => {
                (!writer_holds || self.fault == Fault::ReadersBesideAWriter)
                    && (!announced || self.fault == Fault::AnnouncementsAreIgnored)
            }
        };
        if is_granted {
            self.grant(state, task);
            return;
        }
        if announces && !writer_holds {
            state.relying.insert(task);
            state.announcement = Some((task, ANNOUNCEMENT));
        }
        let process = self.tasks[task].process;
        state.phases[task] = match state.subscribed[process] {
            false => Phase::Subscribing,
            true => self.waiting(task, announces && !writer_holds, announced),
        };
    }

    fn waiting(&self, task: usize, has_announced: bool, announced: bool) -> Phase {
        let renews = has_announced && self.fault != Fault::NoRenewal;
        Phase::Waiting {
            renewal: renews.then_some(RENEWAL),
            is_kept_out: announced && !self.is_writer(task),
        }
    }

    fn grant(&self, state: &mut State, task: usize) {
        if self.is_writer(task) {
            state.announcement = None;
            state.relying.clear();
        } else if !state.relying.is_empty() {
            state.overtakers += 1;
        }
        state.holders.insert(task);
        state.phases[task] = Phase::Holding;
    }

    fn notify(&self, state: &mut State) {
        for process in 0..state.notified.len() {
            if state.subscribed[process] {
                state.notified[process] = true;
                if self.fault == Fault::OneIsNotified {
                    return;
                }
            }
        }
    }

    /// Ends a wait without a grant.
    fn end(&self, state: &mut State, task: usize, withdraws: bool) {
        state.phases[task] = Phase::Ended;
        state.relying.remove(&task);
        if withdraws && state.announcement.is_some_and(|(by, _)| by == task) {
            state.announcement = None;
            self.notify(state);
        }
    }

    /// Returns whether any renewal or retry is due, so that no time passes before it.
    fn is_busy(state: &State) -> bool {
        state.phases.iter().any(|phase| {
            matches!(
                phase,
                Phase::Attempting { .. }
                    | Phase::Subscribing
                    | Phase::Waiting { renewal: Some(0), .. }
            )
        })
    }

    /// Returns the steps that something or someone takes sooner or later.
    fn certain_steps(&self, state: &State) -> Vec<Step> {
        let mut steps = Vec::new();
        for task in 0..self.tasks.len() {
            let notified = state.notified[self.tasks[task].process];
            match state.phases[task] {
                Phase::Queued if self.is_head(state, task) => steps.push(Step::Attempt(task)),
                Phase::Attempting { .. } => steps.push(Step::Decide(task)),
                Phase::Subscribing => steps.push(Step::Subscribe(task)),
                Phase::Holding => steps.push(Step::Release(task)),
                Phase::Waiting { renewal, is_kept_out } => {
                    let announcement_has_ended = is_kept_out && state.announcement.is_none();
                    if notified || renewal == Some(0) || announcement_has_ended {
                        steps.push(Step::Wake(task));
                    }
                }
                Phase::Queued | Phase::Ended => {}
            }
        }
        let ends = !matches!(self.fault, Fault::AnnouncementWithoutEnd | Fault::NoWithdrawal);
        if state.announcement.is_some() && ends && !Self::is_busy(state) {
            steps.push(Step::Tick);
        }
        steps
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let processes = self.tasks.iter().map(|task| task.process).max().unwrap_or(0) + 1;
        vec![State {
            phases: vec![Phase::Queued; self.tasks.len()],
            rounds: self.tasks.iter().map(|task| task.rounds).collect(),
            holders: BTreeSet::new(),
            announcement: None,
            subscribed: vec![false; processes],
            notified: vec![false; processes],
            relying: BTreeSet::new(),
            overtakers: 0,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.extend(self.certain_steps(state));
        for (task, phase) in state.phases.iter().enumerate() {
            if self.tasks[task].is_mortal && matches!(phase, Phase::Waiting { .. }) {
                steps.extend([Step::Die(task), Step::GiveUp(task)]);
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Attempt(task) => state.phases[task] = Phase::Attempting { announces: false },
            Step::Decide(task) => {
                let Phase::Attempting { announces } = state.phases[task] else { return None };
                self.decide(&mut state, task, announces);
            }
            Step::Subscribe(task) => {
                state.subscribed[self.tasks[task].process] = true;
                state.phases[task] = match self.fault {
                    Fault::NoSecondAttempt => self.waiting(task, false, false),
                    _ => Phase::Attempting { announces: self.is_writer(task) },
                };
            }
            Step::Wake(task) => {
                state.notified[self.tasks[task].process] = false;
                state.phases[task] = Phase::Attempting { announces: self.is_writer(task) };
            }
            Step::Release(task) => {
                state.holders.remove(&task);
                state.rounds[task] -= 1;
                let again = state.rounds[task] > 0;
                state.phases[task] = if again { Phase::Queued } else { Phase::Ended };
                if state.holders.is_empty() && self.fault != Fault::NoNotification {
                    self.notify(&mut state);
                }
            }
            Step::Tick => {
                state.announcement =
                    state.announcement.and_then(|(by, ticks)| (ticks > 1).then(|| (by, ticks - 1)));
                for phase in &mut state.phases {
                    if let Phase::Waiting { renewal: Some(ticks), .. } = phase {
                        *ticks = ticks.saturating_sub(1);
                    }
                }
            }
            Step::Die(task) => self.end(&mut state, task, false),
            Step::GiveUp(task) => {
                self.end(&mut state, task, self.fault != Fault::NoWithdrawal);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(EXCLUSION, |model: &Self, state: &State| {
                let writers = state.holders.iter().filter(|task| model.is_writer(**task)).count();
                writers == 0 || state.holders.len() == 1
            }),
            Property::always(WAKE_UP, |model: &Self, state: &State| {
                let all_ended = state.phases.iter().all(|phase| *phase == Phase::Ended);
                all_ended || !model.certain_steps(state).is_empty()
            }),
            Property::always(STARVATION, |_: &Self, state: &State| state.overtakers == 0),
            Property::sometimes("readers share the key", |model: &Self, state: &State| {
                state.holders.iter().filter(|task| !model.is_writer(**task)).count() > 1
            }),
            Property::sometimes("a writer is announced", |_: &Self, state: &State| {
                state.announcement.is_some()
            }),
        ]
    }
}

const EXCLUSION: &str = "no one is beside a writer";
const WAKE_UP: &str = "no wake-up is lost";
const STARVATION: &str = "no reader enters after a waiting writer has announced itself";

fn task(process: usize, mode: Mode, rounds: u8) -> Task {
    Task { process, mode, rounds, is_mortal: false }
}

/// A writer that may die or give up, and readers that come back: two in processes of their own, one
/// behind the writer in its queue.
fn one_writer() -> Vec<Task> {
    let writer = Task { is_mortal: true, ..task(0, Mode::Writer, 1) };
    vec![writer, task(1, Mode::Reader, 2), task(2, Mode::Reader, 2), task(0, Mode::Reader, 1)]
}

/// Two writers, one of them ahead of a reader. None gives up: with it would go the only
/// announcement, until the other one renews its own.
fn two_writers() -> Vec<Task> {
    vec![
        task(0, Mode::Writer, 2),
        task(1, Mode::Reader, 2),
        task(2, Mode::Writer, 1),
        task(2, Mode::Reader, 1),
    ]
}

fn check(tasks: Vec<Task>, fault: Fault) -> impl Checker<Protocol> {
    Protocol { tasks, fault }.checker().threads(1).spawn_bfs().join()
}

#[test]
fn the_protocol_excludes_wakes_and_starves_no_one() {
    for tasks in [one_writer(), two_writers()] {
        let checked = check(tasks, Fault::None);
        assert!(checked.is_done());
        checked.assert_properties();
    }
}

#[track_caller]
fn assert_found(fault: Fault, property: &'static str) {
    let checked = check(one_writer(), fault);
    assert!(checked.discovery(property).is_some(), "{fault:?} does not violate: {property}");
}

#[test]
fn without_a_second_attempt_a_wake_up_is_lost() {
    assert_found(Fault::NoSecondAttempt, WAKE_UP);
}

#[test]
fn an_announcement_without_end_keeps_readers_out_for_ever() {
    assert_found(Fault::AnnouncementWithoutEnd, WAKE_UP);
}

#[test]
fn an_announcement_that_is_not_renewed_lets_readers_overtake() {
    assert_found(Fault::NoRenewal, STARVATION);
}

#[test]
fn a_store_that_ignores_announcements_lets_readers_overtake() {
    assert_found(Fault::AnnouncementsAreIgnored, STARVATION);
}

#[test]
fn a_writer_that_withdraws_nothing_keeps_readers_out_for_ever() {
    assert_found(Fault::NoWithdrawal, WAKE_UP);
}

#[test]
fn a_store_that_admits_readers_beside_a_writer_is_found() {
    assert_found(Fault::ReadersBesideAWriter, EXCLUSION);
}

#[test]
fn a_last_reader_that_notifies_no_one_loses_a_wake_up() {
    assert_found(Fault::NoNotification, WAKE_UP);
}

#[test]
fn a_release_that_notifies_only_one_process_loses_a_wake_up() {
    assert_found(Fault::OneIsNotified, WAKE_UP);
}
