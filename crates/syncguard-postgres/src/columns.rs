//! What the lock table has besides the columns of the TypeScript client, and the parts of
//! statements that depend on it.

/// Which columns the lock table has. Connecting finds out; it never adds any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// All columns, the functions of shared mode, and the line of waiters.
    All,
    /// The eight columns of revision 2, without shared mode.
    Owner,
    /// The six columns of the TypeScript client. No owner is stored, and its rows cannot be
    /// distinguished from ours.
    TypeScript,
}

/// A placeholder and its text with the columns that it needs, and without them.
type Part = (&'static str, &'static str, &'static str);

/// The values of an owner count only if they belong to the lock id: a client that does not know the
/// columns leaves the values of the previous holder.
const OWNER: [Part; 6] = [
    ("{owner}", "CASE WHEN locks.owner_lock_id = locks.lock_id THEN locks.owner END", "NULL::text"),
    ("{notifies}", "coalesce(locks.owner_lock_id = locks.lock_id, false)", "false"),
    ("{owner_columns}", ", owner, owner_lock_id", ""),
    ("{owner_values}", ", $8, $2", ""),
    ("{owner_updates}", ", owner = excluded.owner, owner_lock_id = excluded.owner_lock_id", ""),
    ("{owner_cleared}", ", owner = NULL, owner_lock_id = NULL", ""),
];

/// What a head contains counts only while `shared_id` is its lock id, for the same reason. The
/// functions of shared mode are called only for ids that have no exclusive grant, so that exclusive
/// grants do not pay for them.
const SHARED: [Part; 14] = [
    (
        "{shared}",
        "CASE WHEN locks.shared_id = locks.lock_id THEN jsonb_build_object(
            'permits', locks.permits,
            'holders', locks.holders,
            'announced_by', locks.announced_by,
            'announced_until_ms', locks.announced_until_ms
        )::text END",
        "NULL::text",
    ),
    (
        "{shared_cleared}",
        ", shared_id = NULL, permits = NULL, holders = NULL, announced_by = NULL, \
         announced_until_ms = NULL",
        "",
    ),
    ("{head_key}", "locks.head_key", "NULL::text"),
    ("{head_key_cleared}", ", head_key = NULL", ""),
    ("{is_not_head}", "locks.shared_id IS DISTINCT FROM locks.lock_id", "true"),
    (
        "{is_exclusive}",
        "locks.head_key IS NULL AND locks.shared_id IS DISTINCT FROM locks.lock_id",
        "true",
    ),
    (
        "{is_announced}",
        "coalesce(locks.shared_id = locks.lock_id AND locks.announced_until_ms
            > floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, false)",
        "false",
    ),
    (
        "{is_unused}",
        "NOT {is_announced} AND NOT EXISTS (
            SELECT FROM {locks} AS head
            WHERE head.key = locks.head_key
                AND head.shared_id = head.lock_id
                AND (
                    jsonb_typeof(head.holders) IS DISTINCT FROM 'object'
                    OR jsonb_exists(head.holders, locks.lock_id)
                )
        )",
        "true",
    ),
    (
        "{found_by_own}",
        "locks.key = coalesce(own.head_key, own.key)
            AND (own.head_key IS NULL) = (locks.shared_id IS DISTINCT FROM locks.lock_id)",
        "locks.key = own.key",
    ),
    (
        "{extend_shared}",
        "CASE WHEN {own_transaction} THEN {extend}($1, $2, $3, true) END",
        "NULL::bigint",
    ),
    ("{extend_shared_now}", "{extend}(found.lock_id, found.ttl_ms, $3, false)", "NULL::bigint"),
    (
        "{leave_shared}",
        "coalesce(CASE WHEN {own_transaction} THEN ({leave}(ARRAY[$1], NULL, $2, $3, $4))[1] END, false)",
        "false",
    ),
    ("{abandon_shared}", "{leave}(ARRAY[$1], $3, $6, $4, $5)", ""),
    ("{next_in_line}", "{next}(locks.key, NULL, false)", "hashtext(locks.key)::text"),
];

impl Columns {
    /// Fills in what depends on the columns. The result still contains names of tables and
    /// functions.
    pub(crate) fn fill(self, text: &str) -> String {
        // In reverse order: a part may contain those before it.
        let parts = SHARED.iter().rev().map(|part| (part, self == Self::All));
        let parts = parts.chain(OWNER.iter().map(|part| (part, self != Self::TypeScript)));
        parts.fold(text.to_owned(), |text, ((placeholder, with, without), has_columns)| {
            text.replace(placeholder, if has_columns { with } else { without })
        })
    }

    /// Returns whether waiters can stand in line.
    pub(crate) fn has_line(self) -> bool {
        self == Self::All
    }

    /// Returns whether shared grants can be stored.
    pub(crate) fn has_shared_mode(self) -> bool {
        self == Self::All
    }
}
