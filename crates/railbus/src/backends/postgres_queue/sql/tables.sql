-- Events, each under its number: `seq` is the number of the transaction that published it, times
-- 2^20, plus its place there. `due` holds it back; `rejected` marks what never became an event.
CREATE TABLE @SCHEMA@.events (
    seq bigint PRIMARY KEY,
    id text NOT NULL,
    type text NOT NULL,
    topic text NOT NULL,
    key text,
    due bigint,
    run bigint,
    rejected boolean NOT NULL DEFAULT false,
    body bytea NOT NULL
);
-- Numbers transactions that publish. It must not cache: a number drawn later must be higher.
CREATE SEQUENCE @SCHEMA@.transactions MINVALUE 1 MAXVALUE 8796093022207;
-- What one call published: `n` events from number `first` on. Written with them, never changed.
CREATE TABLE @SCHEMA@.batches (
    first bigint PRIMARY KEY,
    n bigint NOT NULL,
    at bigint NOT NULL
);
-- The order of all events: batches in the order in which they were found committed. Written by
-- one session at a time, so that places become visible in order and none is filled later.
-- The newest row says where to look for more: all batches up to `high` were found but for those of
-- the transactions that row `missed` of `gaps` names.
CREATE TABLE @SCHEMA@.log (
    place bigint PRIMARY KEY,
    first bigint NOT NULL,
    n bigint NOT NULL,
    at bigint NOT NULL,
    high bigint,
    missed bigint
);
-- Numbers that were passed by, of transactions that may commit still: those in `gaps` had begun before
-- `bound`, those in `old` before `old_bound`. Of those in `asked`, each transaction that was not over
-- is among `busy`. Written anew when it changes.
CREATE TABLE @SCHEMA@.gaps (
    turn bigint PRIMARY KEY,
    gaps int8multirange NOT NULL,
    bound xid8,
    old int8multirange NOT NULL,
    old_bound xid8,
    asked int8multirange NOT NULL DEFAULT '{}',
    busy text[]
);
CREATE TABLE @SCHEMA@.groups (
    id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE,
    interest text NOT NULL,
    types text[],
    topics text[],
    keyed boolean NOT NULL DEFAULT false,
    -- What a replay found unsettled, behind which the cursor comes by again.
    passed int8multirange NOT NULL DEFAULT '{}',
    seen bigint NOT NULL
);
-- How far a group has come: the row with its highest `turn` counts. A row that is updated for each
-- batch would be found ever more slowly while a transaction is held open.
CREATE TABLE @SCHEMA@.cursors (
    grp integer NOT NULL,
    turn bigint NOT NULL,
    place bigint NOT NULL,
    furthest bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (grp, turn)
);
-- Places that a member holds, as one row a claim, under a number that no other claim has.
CREATE TABLE @SCHEMA@.leases (
    fence bigint NOT NULL,
    grp integer NOT NULL,
    until bigint NOT NULL,
    again boolean NOT NULL,
    places int8multirange NOT NULL
);
CREATE INDEX leases_fence ON @SCHEMA@.leases (fence);
-- Not by group first: without statistics, which a queue never has, a lease would be looked for there.
CREATE INDEX leases_until ON @SCHEMA@.leases (until, grp);
-- What is to be told of single events: held back, to be delivered again, or, once `open` is
-- false, in dead letters. While `fence` is set the event is in the lease of that number. Once it has
-- `begun`, its first delivery that is, it holds its key until it is settled.
CREATE TABLE @SCHEMA@.deliveries (
    grp integer NOT NULL,
    place bigint NOT NULL,
    seq bigint NOT NULL,
    key text,
    open boolean NOT NULL DEFAULT true,
    fence bigint,
    due bigint NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    begun boolean NOT NULL DEFAULT true,
    lost boolean NOT NULL DEFAULT false,
    outcome smallint NOT NULL DEFAULT 0,
    retried boolean NOT NULL DEFAULT false,
    finished text,
    history text,
    PRIMARY KEY (grp, place)
);
CREATE INDEX deliveries_due ON @SCHEMA@.deliveries (grp, due, place) WHERE open AND fence IS NULL;
CREATE INDEX deliveries_seq ON @SCHEMA@.deliveries (seq);
-- Of those that wait for their key.
CREATE INDEX deliveries_key ON @SCHEMA@.deliveries (grp, key, place) WHERE open AND key IS NOT NULL;
-- How places ended, kept while a run wants to know: 1 unmatched, 2 succeeded, 3 failed, 4 dead.
-- `highest` is the last of the places, of which the first is less than 8192 below it.
CREATE TABLE @SCHEMA@.settled (
    grp integer NOT NULL,
    places int8multirange NOT NULL,
    outcome smallint NOT NULL,
    retried boolean NOT NULL,
    highest bigint NOT NULL
);
CREATE INDEX settled_highest ON @SCHEMA@.settled (highest);
-- What groups had settled at a time: all up to `place` but for what was `open`.
CREATE TABLE @SCHEMA@.marks (
    grp integer NOT NULL,
    at bigint NOT NULL,
    place bigint NOT NULL,
    open int8multirange NOT NULL,
    PRIMARY KEY (grp, at)
);
CREATE TABLE @SCHEMA@.letters (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    seq bigint NOT NULL,
    grp integer,
    place bigint,
    subscription text NOT NULL,
    reason text NOT NULL,
    attempts integer NOT NULL,
    history text,
    at bigint NOT NULL
);
CREATE INDEX letters_seq ON @SCHEMA@.letters (seq);
-- How far inputs were read: the row with the highest `turn` counts.
CREATE TABLE @SCHEMA@.inputs (
    name text NOT NULL,
    turn bigint NOT NULL,
    place bigint NOT NULL,
    fingerprint bigint NOT NULL,
    PRIMARY KEY (name, turn)
);
-- What all that have the queue open share, such as its retention, in microseconds.
CREATE TABLE @SCHEMA@.settings (name text PRIMARY KEY, value bigint NOT NULL);
-- Runs of apps: what was open in their groups when they began, and what retention has removed of
-- theirs since. `seen` is when a run last said that it goes on.
CREATE TABLE @SCHEMA@.runs (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    began_at bigint NOT NULL,
    seen bigint NOT NULL,
    newest bigint NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    swept text
);
CREATE TABLE @SCHEMA@.run_groups (
    run bigint NOT NULL,
    name text NOT NULL,
    types text[],
    topics text[],
    place bigint NOT NULL,
    open int8multirange NOT NULL,
    PRIMARY KEY (run, name)
);
