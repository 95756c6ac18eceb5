//! How requests for a key in shared mode are sent together.

use sqlx::{SqlStr, postgres::PgRow};
use syncguard_core::{
    Fence, LockId, Owner, Timestamp, Ttl,
    backend::{AcquireOutcome, Admission, Capabilities, Counters, Grant, Mode, SharedHolders},
    pool::{Priority, SendBatch},
};

use crate::{
    batch::Firsts,
    error::{Failure, no_random_bytes},
    granting::{exclusive_grant, exclusive_holder, is_of_one_request, violation},
    names::StoredKey,
    row::{GRACE_MS, text, timestamp, value},
    serial::{Serial, SerialLease},
    sharing::sharing_now,
    sql::Sql,
    statement::Statement,
};

/// How the requests for one key and one number of permits are sent.
pub(crate) struct Sender {
    serial: Serial,
    share: SqlStr,
    counters: Counters,
    key: StoredKey,
    mode: Mode,
}

/// One request.
pub(crate) struct Share {
    pub(crate) lock_id: LockId,
    pub(crate) ttl: Ttl,
    pub(crate) owner: Option<Owner>,
}

impl Sender {
    pub(crate) fn new(serial: Serial, sql: &Sql, key: StoredKey, mode: Mode) -> Self {
        Self { serial, share: sql.share.clone(), counters: sql.counters, key, mode }
    }

    fn statement(&self, shares: &[&Share]) -> Result<Statement, Failure> {
        let head = LockId::mint().map_err(no_random_bytes)?;
        let owner = |share: &&Share| share.owner.as_ref().map_or("", Owner::as_str).to_owned();
        let permits = self.mode.permits().map_or(0, |permits| permits.get().into());
        let statement = match self.counters {
            Counters::FromOne => Statement::write(&self.share),
            Counters::Seeded => Statement::write(&self.share).multi_statement(),
        };
        Ok(statement
            .text(&self.key.key)
            .texts(shares.iter().map(|share| share.lock_id.as_str().to_owned()).collect())
            .integers(shares.iter().map(|share| share.ttl.as_millis()).collect())
            .texts(shares.iter().map(owner).collect())
            .integer(GRACE_MS)
            .text(&self.key.fence_key)
            .text(&self.key.user_key)
            .integer(i64::try_from(Fence::LIMIT.number()).unwrap_or(i64::MAX))
            .integer(permits)
            .text(head.as_str()))
    }

    /// Reads for each request the grant that was made, or why it was refused.
    fn outcomes(
        &self,
        row: &PgRow,
        shares: &[&Share],
    ) -> Result<Vec<Result<AcquireOutcome, Failure>>, Failure> {
        let known: Vec<Option<bool>> = value(row, "known")?;
        let [fences, expiries] = ["granted_fence", "granted_expires_at_ms"]
            .map(|column| value::<Option<Vec<Option<i64>>>>(row, column));
        let (fences, expiries) = (fences?.unwrap_or_default(), expiries?.unwrap_or_default());
        let sharing = sharing_now(row);
        let nth = |numbers: &[Option<i64>], n: usize| numbers.get(n).copied().flatten();
        let outcome = |(n, share): (usize, &&Share)| {
            if let Some(granted) = nth(&fences, n).zip(nth(&expiries, n)) {
                return grant(granted).map(AcquireOutcome::Granted);
            }
            let sharing = sharing.as_ref().map_err(|_| Failure::Unreadable("holders"))?;
            let known = *known.get(n).ok_or(Failure::UnreadableAnswer("known"))?;
            self.refusal(row, sharing.as_ref(), share.lock_id, known)
        };
        Ok(shares.iter().enumerate().map(outcome).collect())
    }

    /// Reads why a request was refused. The id may have the grant already.
    fn refusal(
        &self,
        row: &PgRow,
        sharing: Option<&(SharedHolders, Timestamp)>,
        lock_id: LockId,
        known: Option<bool>,
    ) -> Result<AcquireOutcome, Failure> {
        if let Some((holders, now)) = sharing {
            match holders.admit(lock_id, self.mode, *now)? {
                Admission::Held(grant) => return Ok(AcquireOutcome::Granted(grant)),
                Admission::Refused(holder) => {
                    return Ok(AcquireOutcome::Contended { holder: Some(holder) });
                }
                Admission::Admitted => {}
            }
        } else if text(row, "lock_id").is_some() {
            let (grant, now) = (exclusive_grant(row)?, timestamp(row, "now_ms")?);
            if grant.expires_at.is_live(now, Capabilities::GRACE) {
                let holder = Some(exclusive_holder(row, grant, now)?);
                return Ok(AcquireOutcome::Contended { holder });
            }
        }
        match known {
            Some(false) => Err(Failure::Abandoned),
            // An id names at most one grant, and this id's grant has ended.
            _ => Ok(AcquireOutcome::Contended { holder: None }),
        }
    }
}

impl SendBatch for Sender {
    type Request = Share;
    type Answer = AcquireOutcome;
    type Error = Failure;
    type Leased = SerialLease;

    async fn lease(&self) -> Result<SerialLease, Failure> {
        self.serial.lease(Priority::Acquire).await
    }

    async fn send_one(
        &self,
        leased: SerialLease,
        share: &Share,
    ) -> Result<AcquireOutcome, Failure> {
        let shares = [share];
        let row = self.serial.row(leased, self.statement(&shares)?).await.map_err(violation)?;
        let outcome = self.outcomes(&row, &shares)?.pop();
        outcome.unwrap_or(Err(Failure::UnreadableAnswer("answer")))
    }

    /// The function grants to all or, if the server rejects it, to none. What the server rejects may
    /// be one of the requests: an id that was abandoned meanwhile, or the fence beyond the limit of
    /// the counter. Therefore all of them are then sent alone. A request that fails by what the
    /// function has seen is sent alone as well, to have an error of its own.
    async fn send_many(
        &self,
        leased: SerialLease,
        shares: &[Share],
    ) -> Result<Vec<Option<AcquireOutcome>>, Failure> {
        let firsts = Firsts::of(shares, |share| share.lock_id);
        let statement = self.statement(&firsts.requests)?;
        let row = match self.serial.row(leased, statement).await {
            Err(failure) if is_of_one_request(&failure) => return Ok(Vec::new()),
            row => row?,
        };
        let outcomes = self.outcomes(&row, &firsts.requests)?;
        Ok(firsts.spread(outcomes.into_iter().map(Result::ok).collect()))
    }
}

fn grant((fence, expires_at): (i64, i64)) -> Result<Grant, Failure> {
    let fence = u64::try_from(fence).ok().and_then(|number| Fence::new(number).ok());
    let fence = fence.ok_or(Failure::UnreadableAnswer("fence"))?;
    Ok(Grant { fence, expires_at: Timestamp::from_unix_millis(expires_at) })
}
