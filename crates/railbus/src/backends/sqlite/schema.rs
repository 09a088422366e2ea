//! What is stored, and how an older file is brought up to date.

/// Marks the file as Railbus's: "Rail" in ASCII, SQLite's `application_id`.
pub(super) const APPLICATION_ID: i32 = 0x5261_696c;

/// The version of the schema below, SQLite's `user_version`.
pub(super) const VERSION: i32 = 7;

/// Takes a file from version N to N + 1, at index N; a new file goes through all of them.
pub(super) const MIGRATIONS: [&str; VERSION as usize] = [V1, V2, V3, V4, V5, V6, V7];

/// `events` is the log; `run` names the run that published an event, `due` holds it back,
/// `rejected` marks what never became an event. A group has seen all events up to its `cursor`;
/// those of interest have a row in `deliveries`:
/// - unsettled (`state` 0), to be fetched from `due` on; while `leased`, `due` is the lease's end;
/// - settled (`state` 1) in run `run` at `settled_at`, with the worst `outcome` over the group's
///   subscriptions: 1 unmatched, 2 succeeded, 3 failed, 4 dead-lettered.
///
/// `fence` counts the leases, `attempt` the tries, `finished` maps the subscriptions that are
/// through to how. The unsettled rows are few, so their index stays small however long the log.
/// `due` and `settled_at` are of the `timeline`, all other times of the wall clock.
const V1: &str = "
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    topic TEXT NOT NULL,
    at INTEGER NOT NULL,
    due INTEGER,
    run INTEGER,
    rejected INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    interest TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    seen INTEGER NOT NULL
);
CREATE TABLE deliveries (
    grp INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    due INTEGER NOT NULL,
    leased INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    outcome INTEGER NOT NULL DEFAULT 0,
    retried INTEGER NOT NULL DEFAULT 0,
    run INTEGER,
    settled_at INTEGER,
    finished TEXT,
    history TEXT,
    PRIMARY KEY (grp, seq)
) WITHOUT ROWID;
CREATE INDEX deliveries_unsettled ON deliveries (grp, due, seq) WHERE state = 0;
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    seq INTEGER NOT NULL,
    grp INTEGER,
    subscription TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    history TEXT,
    at INTEGER NOT NULL
);
CREATE INDEX letters_seq ON letters (seq);
CREATE TABLE inputs (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    began_at INTEGER NOT NULL
);
CREATE TABLE listeners (name TEXT PRIMARY KEY) WITHOUT ROWID;
";

/// A run knows its `groups` and the `newest` event at its beginning, and keeps in `swept` what it came to with events that retention has
/// removed since, until it has `ended`.
const V2: &str = "
ALTER TABLE runs ADD COLUMN newest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN groups TEXT NOT NULL DEFAULT '[]';
ALTER TABLE runs ADD COLUMN swept TEXT;
ALTER TABLE runs ADD COLUMN ended INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET ended = 1;
";

/// The one row of `timeline` says what to add to the time since `boot` began, and how far the
/// timeline had come at least; without it, whoever opens the file begins one.
const V3: &str = "
CREATE TABLE timeline (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    boot TEXT NOT NULL,
    base INTEGER NOT NULL,
    reached INTEGER NOT NULL
);
";

/// `journal` has a row a run of a pipeline, not to be confused with `runs`, which are an app's:
/// - open (`state` null), leased by `owner` under `fence` until `until`, and left from then on;
///   `cancel` asks for its end;
/// - ended in `state` at `ended_at`.
///
/// `records` counts its rows in `journal_records`; `touched` is when it was last begun, recorded in
/// or ended. What may be large, and stays as it is, has tables of its own, so that a record does not
/// write it again; `shapes` are the graphs, each kept once. A run that is deleted leaves its number
/// in `journal_trash` until its records are gone, since there may be too many for one transaction.
/// `until` and `touched` are of the `timeline`.
const V4: &str = "
CREATE TABLE shapes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    version TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX shapes_version ON shapes (version);
CREATE TABLE journal (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    shape INTEGER NOT NULL,
    owner TEXT NOT NULL,
    fence INTEGER NOT NULL,
    until INTEGER NOT NULL,
    touched INTEGER NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    cancel INTEGER NOT NULL DEFAULT 0,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    state TEXT,
    error TEXT
);
CREATE INDEX journal_shape ON journal (shape);
CREATE INDEX journal_open ON journal (state) WHERE state IS NULL;
CREATE INDEX journal_ended ON journal (touched) WHERE state IS NOT NULL;
CREATE TABLE journal_inputs (run INTEGER PRIMARY KEY, input TEXT NOT NULL);
CREATE TABLE journal_records (
    run INTEGER NOT NULL,
    number INTEGER NOT NULL,
    path TEXT NOT NULL,
    visit INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX journal_places ON journal_records (run, path, visit);
CREATE TABLE journal_trash (run INTEGER PRIMARY KEY);
";

/// In a group that is `keyed`, `deliveries` have the `key` of their event; those that wait for another
/// of their key are due at no time (see `keys`). Elsewhere they have none, so that the index stays
/// empty. What is held back is found by its id.
const V5: &str = "
ALTER TABLE events ADD COLUMN key TEXT;
ALTER TABLE groups ADD COLUMN keyed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN key TEXT;
CREATE INDEX deliveries_keys ON deliveries (grp, key, due, seq)
    WHERE state = 0 AND key IS NOT NULL;
CREATE INDEX events_delayed ON events (id) WHERE due IS NOT NULL;
";

/// A delivery that has `begun` was handed out since it was published, redriven or replayed: it holds
/// its key until it is settled, however many of its tries were taken back.
const V6: &str = "
ALTER TABLE deliveries ADD COLUMN begun INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET begun = 1 WHERE state = 0 AND (leased = 1 OR attempt > 0);
";

/// What processes have in common beside events: `marks` of what is handled once, which a holder has
/// claimed or, without one, is done, until then; and `buckets` of tokens, with what was in them at a
/// time. Both times are of the `timeline`.
const V7: &str = "
CREATE TABLE marks (
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    holder TEXT,
    until INTEGER NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE INDEX marks_until ON marks (until);
CREATE TABLE buckets (
    name TEXT PRIMARY KEY,
    level REAL NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
";
