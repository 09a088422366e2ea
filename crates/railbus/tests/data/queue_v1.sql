-- The tables of a queue as the first version made them.
CREATE SCHEMA IF NOT EXISTS "railbus";
CREATE TABLE "railbus".migrations (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
-- Events, each under its number: `seq` is the number of the transaction that published it, times
-- 2^20, plus its place there. `due` holds it back; `rejected` marks what never became an event.
CREATE TABLE "railbus".events (
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
CREATE SEQUENCE "railbus".transactions MINVALUE 1 MAXVALUE 8796093022207;
-- What one call published: `n` events from number `first` on. Written with them, never changed.
CREATE TABLE "railbus".batches (
    first bigint PRIMARY KEY,
    n bigint NOT NULL,
    at bigint NOT NULL
);
-- The order of all events: batches in the order in which they were found committed. Written by
-- one session at a time, so that places become visible in order and none is filled later.
-- The newest row says where to look for more: all batches up to `high` were found but for those of
-- the transactions that row `missed` of `gaps` names.
CREATE TABLE "railbus".log (
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
CREATE TABLE "railbus".gaps (
    turn bigint PRIMARY KEY,
    gaps int8multirange NOT NULL,
    bound xid8,
    old int8multirange NOT NULL,
    old_bound xid8,
    asked int8multirange NOT NULL DEFAULT '{}',
    busy text[]
);
CREATE TABLE "railbus".groups (
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
CREATE TABLE "railbus".cursors (
    grp integer NOT NULL,
    turn bigint NOT NULL,
    place bigint NOT NULL,
    furthest bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (grp, turn)
);
-- Places that a member holds, as one row a claim, under a number that no other claim has.
CREATE TABLE "railbus".leases (
    fence bigint NOT NULL,
    grp integer NOT NULL,
    until bigint NOT NULL,
    again boolean NOT NULL,
    places int8multirange NOT NULL
);
CREATE INDEX leases_fence ON "railbus".leases (fence);
-- Not by group first: without statistics, which a queue never has, a lease would be looked for there.
CREATE INDEX leases_until ON "railbus".leases (until, grp);
-- What is to be told of single events: held back, to be delivered again, or, once `open` is
-- false, in dead letters. While `fence` is set the event is in the lease of that number. Once it has
-- `begun`, its first delivery that is, it holds its key until it is settled.
CREATE TABLE "railbus".deliveries (
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
CREATE INDEX deliveries_due ON "railbus".deliveries (grp, due, place) WHERE open AND fence IS NULL;
CREATE INDEX deliveries_seq ON "railbus".deliveries (seq);
-- Of those that wait for their key.
CREATE INDEX deliveries_key ON "railbus".deliveries (grp, key, place) WHERE open AND key IS NOT NULL;
-- How places ended, kept while a run wants to know: 1 unmatched, 2 succeeded, 3 failed, 4 dead.
-- `highest` is the last of the places, of which the first is less than 8192 below it.
CREATE TABLE "railbus".settled (
    grp integer NOT NULL,
    places int8multirange NOT NULL,
    outcome smallint NOT NULL,
    retried boolean NOT NULL,
    highest bigint NOT NULL
);
CREATE INDEX settled_highest ON "railbus".settled (highest);
-- What groups had settled at a time: all up to `place` but for what was `open`.
CREATE TABLE "railbus".marks (
    grp integer NOT NULL,
    at bigint NOT NULL,
    place bigint NOT NULL,
    open int8multirange NOT NULL,
    PRIMARY KEY (grp, at)
);
CREATE TABLE "railbus".letters (
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
CREATE INDEX letters_seq ON "railbus".letters (seq);
-- How far inputs were read: the row with the highest `turn` counts.
CREATE TABLE "railbus".inputs (
    name text NOT NULL,
    turn bigint NOT NULL,
    place bigint NOT NULL,
    fingerprint bigint NOT NULL,
    PRIMARY KEY (name, turn)
);
-- What all that have the queue open share, such as its retention, in microseconds.
CREATE TABLE "railbus".settings (name text PRIMARY KEY, value bigint NOT NULL);
-- Runs of apps: what was open in their groups when they began, and what retention has removed of
-- theirs since. `seen` is when a run last said that it goes on.
CREATE TABLE "railbus".runs (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    began_at bigint NOT NULL,
    seen bigint NOT NULL,
    newest bigint NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    swept text
);
CREATE TABLE "railbus".run_groups (
    run bigint NOT NULL,
    name text NOT NULL,
    types text[],
    topics text[],
    place bigint NOT NULL,
    open int8multirange NOT NULL,
    PRIMARY KEY (run, name)
);
-- The class of this schema's advisory locks: 0 for the log, 1 for runs, 2 and 3 for retention, 4 and
-- 5 for graphs, groups from 16 on, inputs below 0.
CREATE FUNCTION "railbus".lock_class() RETURNS integer LANGUAGE sql STABLE AS
$$ SELECT '"railbus"'::regnamespace::oid::integer $$;

-- The time that leases and delays are counted on: the server's, in microseconds since 1970.
CREATE FUNCTION "railbus".now_micros() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Draws `most` numbers for events. Its transaction's id is drawn first: who later misses the
-- numbers between two that it sees knows that their transactions had begun.
CREATE FUNCTION "railbus".draw(most bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    said text := current_setting('railbus.next', true);
    mine CONSTANT text := 'railbus:';
    number bigint;
BEGIN
    PERFORM pg_current_xact_id();
    IF starts_with(coalesce(said, ''), mine) THEN
        number := substr(said, length(mine) + 1)::bigint;
        IF (number & 1048575) = 0 OR (number & 1048575) + most > 1048576 THEN
            number := NULL;
        END IF;
    END IF;
    number := coalesce(number, nextval('"railbus".transactions'::regclass) << 20);
    PERFORM set_config('railbus.next', mine || (number + most), true);
    RETURN number;
END $$;

-- Stores events, numbered from `first_seq` on.
CREATE FUNCTION "railbus".insert_events(
    first_seq bigint, ids text[], types text[], topics text[], keys text[], delays bigint[],
    bodies bytea[], of_runs bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    n CONSTANT bigint := cardinality(bodies);
    at CONSTANT bigint := "railbus".now_micros();
BEGIN
    -- Lists side by side are faster than one joined with its ordinals.
    IF keys IS NULL AND delays IS NULL AND of_runs IS NULL THEN
        INSERT INTO "railbus".events (seq, id, type, topic, body)
        SELECT generate_series(first_seq, first_seq + n - 1), unnest(ids), unnest(types),
            unnest(topics), unnest(bodies);
    ELSE
        INSERT INTO "railbus".events (seq, id, type, topic, key, due, run, body)
        SELECT generate_series(first_seq, first_seq + n - 1), unnest(ids), unnest(types),
            unnest(topics), unnest(keys), at + unnest(delays), unnest(of_runs), unnest(bodies);
    END IF;
    INSERT INTO "railbus".batches (first, n, at) VALUES (first_seq, n, at);
END $$;

-- Stores events in a transaction of their own.
CREATE FUNCTION "railbus".publish(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[]
) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The transaction's id first, as `draw` has it.
    first_seq CONSTANT bigint := CASE WHEN pg_current_xact_id() IS NOT NULL
        THEN nextval('"railbus".transactions'::regclass) << 20 END;
BEGIN
    PERFORM "railbus".insert_events(
        first_seq, ids, types, topics, keys, delays, bodies, of_runs);
    RETURN first_seq;
END $$;

-- Stores events in the transaction that it is called in, whatever else that does. All calls of one
-- share the transaction's number.
CREATE FUNCTION "railbus".enlist(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[]
) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT "railbus".insert_events(
        "railbus".draw(cardinality(bodies)), ids, types, topics, keys, delays, bodies, of_runs)
$$;

-- Moves an input from one offset to the next; false if it is not there.
CREATE FUNCTION "railbus".advance(
    input text, from_place bigint, to_place bigint, to_fingerprint bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found record;
BEGIN
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), hashtext('input:' || input) | -2147483648);
    SELECT i.turn, i.place INTO found FROM "railbus".inputs i
    WHERE i.name = input ORDER BY i.turn DESC LIMIT 1;
    IF coalesce(found.place, 0) <> from_place THEN
        RETURN false;
    END IF;
    DELETE FROM "railbus".inputs i WHERE i.name = input AND i.turn = found.turn;
    INSERT INTO "railbus".inputs (name, turn, place, fingerprint)
    VALUES (input, coalesce(found.turn, 0) + 1, to_place, to_fingerprint);
    RETURN true;
END $$;

-- Marks an event that was just stored as one that never became any.
CREATE FUNCTION "railbus".reject(of_seq bigint, input text, why text) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE "railbus".events SET rejected = true WHERE seq = of_seq;
    INSERT INTO "railbus".letters (seq, grp, subscription, reason, attempts, at)
    VALUES (of_seq, NULL, input, why, 0, "railbus".now_micros());
$$;

-- Stores events as `publish`, moves the inputs that they come from, and marks those that never
-- became any, counted from 0. If an input is not where a step begins, nothing is done.
CREATE FUNCTION "railbus".publish_steps(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[], inputs text[], froms bigint[], tos bigint[], fingerprints bigint[],
    nths bigint[], sources text[], reasons text[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first_seq CONSTANT bigint := "railbus".publish(ids, types, topics, keys, delays, bodies, of_runs);
BEGIN
    FOR nth IN 1 .. cardinality(inputs) LOOP
        IF NOT "railbus".advance(inputs[nth], froms[nth], tos[nth], fingerprints[nth]) THEN
            RAISE EXCEPTION 'railbus: the input % is elsewhere', inputs[nth] USING ERRCODE = 'RB001';
        END IF;
    END LOOP;
    FOR nth IN 1 .. cardinality(nths) LOOP
        PERFORM "railbus".reject(first_seq + nths[nth], sources[nth], reasons[nth]);
    END LOOP;
END $$;
-- Puts batches that were committed in order, and returns the newest place. It must be the first to
-- write in its transaction: the transaction's id, drawn after looking, is higher than that of any
-- that had drawn numbers before.
CREATE FUNCTION "railbus".tick() RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    state record;
    late "railbus".gaps;
    was "railbus".gaps;
    horizon xid8;
    missing int8multirange;
    ids int8multirange;
    firsts bigint[];
    ns bigint[];
    ats bigint[];
    newest bigint;
    top bigint;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'railbus: tick must come before anything is written';
    END IF;
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), 0);
    -- Before looking: what is missing from behind this horizon then will never come.
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    SELECT l.place + l.n - 1 AS newest, l.high, l.missed
    INTO state FROM "railbus".log l ORDER BY l.place DESC LIMIT 1;
    newest := coalesce(state.newest, 0);
    state.high := coalesce(state.high, 0);
    IF state.missed IS NOT NULL THEN
        SELECT * INTO late FROM "railbus".gaps g WHERE g.turn = state.missed;
        was := late;
        late := "railbus".ask(late);
    END IF;
    SELECT array_agg(b.first ORDER BY b.first), array_agg(b.n ORDER BY b.first),
        array_agg(b.at ORDER BY b.first), max(b.first),
        range_agg(int8range(b.first >> 20, b.first >> 20, '[]'))
    INTO firsts, ns, ats, top, ids
    FROM (
        SELECT late_one.* FROM unnest(late.gaps + late.old) AS gap CROSS JOIN LATERAL (
            SELECT b.first, b.n, b.at FROM "railbus".batches b
            WHERE b.first >= lower(gap) << 20 AND b.first < upper(gap) << 20 ORDER BY b.first
        ) AS late_one
        UNION ALL
        (SELECT b.first, b.n, b.at FROM "railbus".batches b
            WHERE b.first > state.high ORDER BY b.first LIMIT 1000)
    ) AS b;
    IF ids IS NULL THEN
        IF coalesce(pg_sequence_last_value('"railbus".transactions'::regclass), 0) < state.high >> 20 THEN
            PERFORM "railbus".catch_up(state.high);
        END IF;
        RETURN newest;
    END IF;
    IF late.turn IS NOT NULL THEN
        late.gaps := late.gaps - ids;
        late.old := late.old - ids;
        IF horizon >= coalesce(late.old_bound, horizon) THEN
            late.old := late.gaps;
            late.old_bound := late.bound;
            late.gaps := '{}';
        END IF;
        -- All that might have been among them is over, and was before this looked.
        IF cardinality(late.busy) = 0 THEN
            late.gaps := late.gaps - late.asked;
            late.old := late.old - late.asked;
            late.busy := NULL;
        END IF;
    END IF;
    IF top > state.high THEN
        missing := int8multirange(int8range((state.high >> 20) + 1, (top >> 20) + 1)) - ids;
        IF NOT isempty(missing) THEN
            late.gaps := coalesce(late.gaps, '{}') + missing;
            late.bound := pg_current_xact_id();
        END IF;
        state.high := top;
    END IF;
    IF late IS DISTINCT FROM was THEN
        state.missed := "railbus".write_gaps(late);
    END IF;
    INSERT INTO "railbus".log (place, first, n, at)
    SELECT newest + 1 + sum(b.n) OVER (ORDER BY b.nth) - b.n, b.first, b.n, b.at
    FROM unnest(firsts, ns, ats) WITH ORDINALITY AS b (first, n, at, nth)
    WHERE b.nth < cardinality(firsts);
    newest := newest + (SELECT sum(n) FROM unnest(ns) AS n);
    top := cardinality(firsts);
    INSERT INTO "railbus".log (place, first, n, at, high, missed)
    VALUES (newest + 1 - ns[top], firsts[top], ns[top], ats[top], state.high, state.missed);
    RETURN newest;
END $$;

-- Writes gaps in place of those before; returns their turn, nothing if there are none.
CREATE FUNCTION "railbus".write_gaps(late "railbus".gaps) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    following CONSTANT bigint := 1 + coalesce((
        SELECT g.turn FROM "railbus".gaps g ORDER BY g.turn DESC LIMIT 1), 0);
BEGIN
    IF isempty(late.gaps) AND isempty(coalesce(late.old, '{}')) THEN
        DELETE FROM "railbus".gaps g WHERE g.turn = late.turn;
        RETURN NULL;
    END IF;
    DELETE FROM "railbus".gaps g WHERE g.turn = late.turn;
    INSERT INTO "railbus".gaps (turn, gaps, bound, old, old_bound, asked, busy)
    VALUES (following, late.gaps, late.bound, coalesce(late.old, '{}'), late.old_bound,
        coalesce(late.asked, '{}'), late.busy);
    RETURN following;
END $$;

-- Asks, where there are many gaps since an old transaction keeps the horizon, which of those that
-- publish are not over: each holds a lock of the sequence since before it drew its number.
CREATE FUNCTION "railbus".ask(late "railbus".gaps) RETURNS "railbus".gaps LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    publishing text[];
BEGIN
    IF (SELECT count(*) FROM unnest(late.gaps + late.old)) < 100 THEN
        RETURN late;
    END IF;
    publishing := ARRAY(SELECT l.virtualtransaction FROM pg_locks l
        WHERE l.locktype = 'relation' AND l.relation = '"railbus".transactions'::regclass
          AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
          AND l.virtualtransaction IS NOT NULL);
    IF late.busy IS NULL THEN
        late.asked := late.gaps + late.old;
        late.busy := publishing;
    ELSE
        late.busy := ARRAY(SELECT unnest(late.busy) INTERSECT SELECT unnest(publishing));
    END IF;
    RETURN late;
END $$;

-- Moves a sequence on that has fallen behind the log, as where a copy of the tables came without it,
-- and looks for what was published meanwhile under numbers that were passed by.
CREATE FUNCTION "railbus".catch_up(high bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    late "railbus".gaps;
BEGIN
    PERFORM setval('"railbus".transactions'::regclass, high >> 20);
    late.turn := (SELECT max(g.turn) FROM "railbus".gaps g);
    late.gaps := int8multirange(int8range(1, (high >> 20) + 1)) - coalesce((
        SELECT range_agg(int8range(b.first >> 20, b.first >> 20, '[]')) FROM "railbus".batches b
        WHERE b.first <= high AND EXISTS (
            SELECT FROM "railbus".log l WHERE l.first = b.first AND l.at = b.at)), '{}');
    late.bound := pg_current_xact_id();
    UPDATE "railbus".log l SET missed = "railbus".write_gaps(late)
    WHERE l.place = (SELECT m.place FROM "railbus".log m ORDER BY m.place DESC LIMIT 1);
END $$;
-- Order by key. An event that waits for an earlier one of its key is due at no time, the highest
-- there is; whoever settles the one before makes it due. Which event holds a key is asked whenever
-- one is about to be leased, so that those that became due in other ways keep the order as well. In
-- a group that keeps it, all that is leased has a delivery of its own.
-- Takes new events of a group in, up to a place, as deliveries: those whose key is free are due.
CREATE FUNCTION "railbus".take_in(
    of_group integer, behind bigint, upto bigint, now bigint, types text[], topics text[],
    known int8multirange
) RETURNS void LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    WITH chunk AS MATERIALIZED (
        SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.key, e.due
        FROM (
            SELECT l.place, l.first, l.n FROM "railbus".log l
            WHERE l.place <= upto AND l.place >= coalesce((
                SELECT b.place FROM "railbus".log b
                WHERE b.place <= behind + 1 ORDER BY b.place DESC LIMIT 1), 0)
            ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.* FROM "railbus".events e
            WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0)
              AND e.seq < l.first + least(l.n, upto + 1 - l.place) AND NOT e.rejected
        ) AS e
    ), held AS MATERIALIZED (
        -- As a claim has it: what is withdrawn meanwhile is not taken in.
        SELECT e.seq FROM (
            SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
        ) AS c JOIN "railbus".events e ON e.seq = c.seq FOR KEY SHARE OF e
    )
    INSERT INTO "railbus".deliveries (grp, place, seq, key, begun, due)
    SELECT of_group, w.place, w.seq, w.key, false, CASE
        WHEN w.due > now THEN w.due
        WHEN w.key IS NULL THEN 0
        WHEN w.nth > 1 OR EXISTS (
            SELECT FROM "railbus".deliveries d WHERE d.grp = of_group AND d.key = w.key AND d.open
              AND (d.due = 9223372036854775807 OR d.fence IS NOT NULL OR d.begun
                   OR d.due <= now)) THEN 9223372036854775807
        ELSE 0 END
    FROM (
        SELECT c.*, row_number() OVER (
            PARTITION BY c.key, coalesce(c.due, 0) > now ORDER BY c.place) AS nth
        FROM chunk c
        WHERE (c.due IS NULL OR c.seq IN (SELECT h.seq FROM held h))
          AND NOT c.place <@ known AND "railbus".wants(types, topics, c.type, c.topic)
    ) AS w ON CONFLICT (grp, place) DO NOTHING;
END $$;

-- Leases deliveries that are due, one of each key, behind one and up to another; those whose key is held
-- are set aside.
CREATE FUNCTION "railbus".claim_keyed(
    of_group integer, new_fence bigint, now bigint, lease bigint, types text[], topics text[],
    most integer, most_bytes bigint, after_due bigint, after_place bigint, upto_due bigint,
    upto_place bigint
) RETURNS TABLE (place bigint, attempt integer, lost boolean, finished text, body bytea)
LANGUAGE plpgsql VOLATILE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    one record;
    taken bigint[] := '{}';
    parked bigint[] := '{}';
    size bigint := 0;
BEGIN
    FOR one IN
        SELECT d.place, d.key, d.attempt, d.lost, d.finished, e.body FROM "railbus".deliveries d
        JOIN "railbus".events e ON e.seq = d.seq
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL
          AND (d.due, d.place) > (after_due, after_place) AND (d.due, d.place) <= (upto_due, upto_place)
          AND "railbus".wants(types, topics, e.type, e.topic)
        ORDER BY d.due, d.place FOR UPDATE OF d SKIP LOCKED
    LOOP
        EXIT WHEN cardinality(taken) >= most OR size >= most_bytes OR cardinality(parked) >= 4096;
        IF one.key IS NOT NULL AND EXISTS (
            SELECT FROM "railbus".deliveries d WHERE d.grp = of_group AND d.key = one.key AND d.open
              AND d.place <> one.place AND d.due < 9223372036854775807
              AND (d.fence IS NOT NULL OR d.begun OR (d.due <= now AND d.place < one.place))
        ) THEN
            parked := parked || one.place;
            CONTINUE;
        END IF;
        UPDATE "railbus".deliveries d SET fence = new_fence, attempt = d.attempt + 1, begun = true,
            lost = false, retried = d.retried OR d.attempt > 0 WHERE d.grp = of_group AND d.place = one.place;
        taken := taken || one.place;
        size := size + octet_length(one.body);
        RETURN QUERY SELECT one.place, one.attempt + 1, one.lost, one.finished, one.body;
    END LOOP;
    UPDATE "railbus".deliveries d SET due = 9223372036854775807
    WHERE d.grp = of_group AND d.place = ANY (parked);
    INSERT INTO "railbus".leases (fence, grp, until, again, places)
    SELECT new_fence, of_group, now + lease, true, range_agg(int8range(t.place, t.place, '[]'))
    FROM unnest(taken) AS t (place) HAVING count(*) > 0;
END $$;

-- Makes due what has waited longest for each of the keys.
CREATE FUNCTION "railbus".free_keys(of_group integer, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    UPDATE "railbus".deliveries d SET due = 0 FROM (
        SELECT DISTINCT ON (n.key) n.place FROM "railbus".deliveries n
        WHERE n.grp = of_group AND n.key = ANY (keys) AND n.open AND n.due = 9223372036854775807
        ORDER BY n.key, n.place
    ) AS next WHERE d.grp = of_group AND d.place = next.place;
END $$;

-- Lets a group keep the order of keys from here on. Its lock is held, and that of runs: nobody is
-- about to settle or extend a lease that is made into deliveries here.
CREATE FUNCTION "railbus".keep_order(of_group integer) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO "railbus".deliveries (grp, place, seq, fence, due, attempt)
    SELECT of_group, p.place, "railbus".seq_at(p.place), l.fence, l.until, 1
    FROM "railbus".leases l CROSS JOIN LATERAL unnest(l.places) AS span
    CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
    WHERE l.grp = of_group AND NOT l.again AND "railbus".seq_at(p.place) IS NOT NULL;
    UPDATE "railbus".leases l SET again = true WHERE l.grp = of_group;
    UPDATE "railbus".deliveries d SET key = e.key FROM "railbus".events e
    WHERE d.grp = of_group AND d.open AND e.seq = d.seq;
    UPDATE "railbus".groups g SET keyed = true WHERE g.id = of_group;
END $$;
-- Tells whether a name is as wanted: `=` says that it is the rest, `%` that the rest is a pattern
-- of LIKE, `~` that it is a regular expression.
CREATE FUNCTION "railbus".fits(name text, wanted text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE left(wanted, 1)
        WHEN '=' THEN name = substr(wanted, 2)
        WHEN '%' THEN name COLLATE "C" LIKE substr(wanted, 2)
        ELSE name COLLATE "C" ~ substr(wanted, 2)
    END
$$;

-- Tells whether an event is of interest to one of the pairs; no list says that all are.
--
-- In PL/pgSQL, as all that is called often: what is in SQL is planned anew at each call.
CREATE FUNCTION "railbus".wants(types text[], topics text[], type text, topic text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF types IS NULL THEN
        RETURN true;
    END IF;
    FOR nth IN 1 .. cardinality(types) LOOP
        IF (types[nth] IS NULL OR "railbus".fits(type, types[nth]))
            AND (topics[nth] IS NULL OR "railbus".fits(topic, topics[nth])) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Returns the number of the event at a place; nothing if retention has removed it.
CREATE FUNCTION "railbus".seq_at(at_place bigint) RETURNS bigint LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT CASE WHEN at_place < l.place + l.n THEN l.first + at_place - l.place END
        FROM "railbus".log l WHERE l.place <= at_place ORDER BY l.place DESC LIMIT 1);
END $$;

-- Reads a list of texts, of which some may be null.
CREATE FUNCTION "railbus".list_of(said jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(said) = 'array' THEN ARRAY(
        SELECT v.value FROM jsonb_array_elements_text(said) WITH ORDINALITY AS v (value, nth)
        ORDER BY v.nth) END
$$;

-- Adds a failed try to a history, of which the latest twenty are kept.
CREATE FUNCTION "railbus".lengthen(history text, try text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT json_agg(t.try ORDER BY t.nth)::text FROM (
        SELECT a.try, a.nth FROM (
            SELECT o.try, o.nth FROM json_array_elements(coalesce(history, '[]')::json)
                WITH ORDINALITY AS o (try, nth)
            UNION ALL SELECT try::json, 9223372036854775807
        ) AS a ORDER BY a.nth DESC LIMIT 20
    ) AS t
$$;

-- Builds the failed try that a lease is that ran out.
CREATE FUNCTION "railbus".lost_try(attempt integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT json_build_object('attempt', attempt,
        'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'subscription', '',
        'reason', 'the lease ran out unsettled: the process died, or hung')::text
$$;

-- Takes leases of a group that have run out, at `since` or later, apart into single deliveries.
CREATE FUNCTION "railbus".expire(of_group integer, now bigint, since bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM "railbus".leases l
        WHERE l.grp = of_group AND l.until >= since AND l.until <= now) THEN
        RETURN;
    END IF;
    WITH over AS MATERIALIZED (
        SELECT l.fence, l.until FROM "railbus".leases l
        WHERE l.grp = of_group AND l.until >= since AND l.until <= now
        ORDER BY l.until FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM "railbus".leases l USING over o
        WHERE l.fence = o.fence AND l.until = o.until AND l.grp = of_group RETURNING l.until, l.places
    ), single AS (
        SELECT g.until, p.place, "railbus".seq_at(p.place) AS seq
        FROM gone g CROSS JOIN LATERAL unnest(g.places) AS span
        CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
    )
    INSERT INTO "railbus".deliveries AS d (grp, place, seq, due, attempt, lost, history)
    SELECT of_group, s.place, s.seq, s.until, 1, true, "railbus".lengthen(NULL, "railbus".lost_try(1))
    FROM single s
    WHERE EXISTS (SELECT FROM "railbus".events e WHERE e.seq = s.seq)
    ON CONFLICT (grp, place) DO UPDATE SET fence = NULL, due = excluded.due, lost = true,
        history = "railbus".lengthen(d.history, "railbus".lost_try(d.attempt));
END $$;

-- Returns the places of a group that are not settled, of those it has come to.
CREATE FUNCTION "railbus".open_places(of_group integer) RETURNS int8multirange
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(range_agg(o.place), '{}') FROM (
        SELECT unnest(l.places) AS place FROM "railbus".leases l WHERE l.grp = of_group
        UNION ALL SELECT int8range(d.place, d.place, '[]') FROM "railbus".deliveries d
        WHERE d.grp = of_group AND d.open
    ) AS o);
END $$;

-- Returns in how many microseconds something of a group will be due; nothing if nothing is held.
CREATE FUNCTION "railbus".next_due(of_group integer, now bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    held CONSTANT bigint := (SELECT d.due FROM "railbus".deliveries d
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL AND d.due < 9223372036854775807
        ORDER BY d.due LIMIT 1);
    leased CONSTANT bigint := (SELECT l.until FROM "railbus".leases l
        WHERE l.grp = of_group AND l.until > now ORDER BY l.until LIMIT 1);
BEGIN
    -- What is due and was not claimed is for other members: no need to hurry.
    RETURN least(CASE WHEN held <= now THEN 200000 ELSE held - now END, leased - now);
END $$;

-- Leases up to `most` events to a member: first those that are due again, then new ones.
--
-- Of what is due it looks at no more than 4096 after `after_due` and `after_place`: what is for other
-- members, who may be away, is passed by piece by piece.
--
-- The last row has no event: it tells how long there is nothing to claim, in microseconds; below 0
-- that the group is gone, nothing that nobody knows; and as `finished` after what to go on, if not all
-- was looked at.
CREATE FUNCTION "railbus".claim(
    of_group integer, new_fence bigint, lease bigint, types text[], topics text[],
    most integer, most_bytes bigint, since bigint, after_due bigint, after_place bigint
) RETURNS TABLE (place bigint, attempt integer, lost boolean, finished text, body bytea, wait bigint)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    now bigint;
    theirs record;
    at record;
    newest bigint;
    known int8multirange := '{}';
    room integer := most;
    got integer;
    upto bigint;
    scanned bigint := 0;
    first_new bigint;
    is_due boolean;
    goes_on boolean := false;
    upto_due bigint;
    upto_place bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), of_group + 16);
    SELECT c.turn, c.place, c.furthest INTO at
    FROM "railbus".cursors c WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1;
    SELECT l.place + l.n - 1 INTO newest FROM "railbus".log l ORDER BY l.place DESC LIMIT 1;
    IF coalesce(newest, 0) - at.place < most THEN
        newest := "railbus".tick();
    END IF;
    -- Only now: what was published once the group wanted it may be in the log by now.
    SELECT g.types, g.topics, g.keyed INTO theirs FROM "railbus".groups g WHERE g.id = of_group;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0, false, NULL::text, NULL::bytea, -1::bigint;
        RETURN;
    END IF;
    now := "railbus".now_micros();
    IF since IS NOT NULL THEN
        PERFORM "railbus".expire(of_group, now, since);
    END IF;
    is_due := EXISTS (SELECT FROM "railbus".deliveries d WHERE d.grp = of_group AND d.open
        AND d.fence IS NULL AND d.due <= now AND (d.due, d.place) > (after_due, after_place));
    IF is_due THEN
        SELECT d.due, d.place INTO upto_due, upto_place FROM "railbus".deliveries d
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL AND d.due <= now
          AND (d.due, d.place) > (after_due, after_place)
        ORDER BY d.due, d.place OFFSET 4095 LIMIT 1;
        goes_on := upto_due IS NOT NULL;
        upto_due := coalesce(upto_due, now);
        upto_place := coalesce(upto_place, 9223372036854775807);
    END IF;
    IF is_due AND theirs.keyed THEN
        RETURN QUERY SELECT k.*, NULL::bigint FROM "railbus".claim_keyed(of_group, new_fence, now, lease,
            types, topics, room, most_bytes, after_due, after_place, upto_due, upto_place) AS k;
        GET DIAGNOSTICS got = ROW_COUNT;
        room := room - got;
    ELSIF is_due THEN
        RETURN QUERY WITH due AS MATERIALIZED (
            SELECT d.place, d.due, d.attempt, d.lost, d.finished, e.body,
                sum(octet_length(e.body)) OVER (ORDER BY d.due, d.place) - octet_length(e.body) AS before
            FROM (
                SELECT d.place, d.due, d.attempt, d.lost, d.finished, d.seq FROM "railbus".deliveries d
                JOIN "railbus".events e ON e.seq = d.seq
                WHERE d.grp = of_group AND d.open AND d.fence IS NULL
                  AND (d.due, d.place) > (after_due, after_place)
                  AND (d.due, d.place) <= (upto_due, upto_place)
                  AND "railbus".wants(types, topics, e.type, e.topic)
                ORDER BY d.due, d.place LIMIT most FOR UPDATE OF d SKIP LOCKED
            ) AS d JOIN "railbus".events e ON e.seq = d.seq
        ), taken AS MATERIALIZED (
            SELECT * FROM due WHERE before < most_bytes
        ), marked AS (
            UPDATE "railbus".deliveries d SET fence = new_fence, attempt = d.attempt + 1, begun = true,
                lost = false, retried = d.retried OR d.attempt > 0
            FROM taken t WHERE d.grp = of_group AND d.place = t.place
        ), leased AS (
            INSERT INTO "railbus".leases (fence, grp, until, again, places)
            SELECT new_fence, of_group, now + lease, true, range_agg(int8range(t.place, t.place, '[]'))
            FROM taken t HAVING count(*) > 0
        )
        SELECT t.place, t.attempt + 1, t.lost, t.finished, t.body, NULL::bigint
        FROM taken t ORDER BY t.due, t.place;
        GET DIAGNOSTICS got = ROW_COUNT;
        room := room - got;
    END IF;
    IF goes_on AND got > 0 THEN
        -- There may be more of its own there.
        upto_due := after_due;
        upto_place := after_place;
    END IF;
    IF room > 0 AND at.place < newest AND at.place < at.furthest THEN
        known := (SELECT g.passed FROM "railbus".groups g WHERE g.id = of_group);
    END IF;
    WHILE room > 0 AND at.place < newest AND scanned < 4096 LOOP
        -- Never more than 8192 places in one lease: as far do those reach that are settled together.
        upto := least(newest, at.place + least(greatest(room, 64), 4096));
        scanned := scanned + upto - at.place;
        IF theirs.keyed THEN
            PERFORM "railbus".take_in(
                of_group, at.place, upto, now, theirs.types, theirs.topics, known);
            first_new := at.place;
            DELETE FROM "railbus".cursors c WHERE c.grp = of_group AND c.turn = at.turn;
            at.turn := at.turn + 1;
            at.place := upto;
            at.furthest := greatest(at.furthest, upto);
            INSERT INTO "railbus".cursors (grp, turn, place, furthest, at)
            VALUES (of_group, at.turn, at.place, at.furthest, now);
            RETURN QUERY SELECT k.*, NULL::bigint FROM "railbus".claim_keyed(of_group, new_fence, now,
                lease, types, topics, room, most_bytes, 0, first_new, now, 9223372036854775807) AS k;
            GET DIAGNOSTICS got = ROW_COUNT;
            room := room - got;
            CONTINUE;
        END IF;
        RETURN QUERY WITH chunk AS MATERIALIZED (
            SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.rejected, e.due, e.body
            FROM (
                SELECT l.place, l.first, l.n FROM "railbus".log l
                WHERE l.place <= upto AND l.place >= coalesce((
                    SELECT b.place FROM "railbus".log b
                    WHERE b.place <= at.place + 1 ORDER BY b.place DESC LIMIT 1), 0)
                ORDER BY l.place
            ) AS l CROSS JOIN LATERAL (
                SELECT e.seq, e.type, e.topic, e.rejected, e.due, e.body FROM "railbus".events e
                WHERE e.seq >= l.first + greatest(at.place + 1 - l.place, 0)
                  AND e.seq < l.first + least(l.n, upto + 1 - l.place)
                ORDER BY e.seq
            ) AS e
        ), kinds AS MATERIALIZED (
            SELECT k.type, k.topic, "railbus".wants(types, topics, k.type, k.topic) AS mine,
                "railbus".wants(theirs.types, theirs.topics, k.type, k.topic) AS theirs
            FROM (SELECT DISTINCT c.type, c.topic FROM chunk c) AS k
        ), held AS MATERIALIZED (
            -- Locked, so that it is not withdrawn meanwhile; one that just was is not there.
            SELECT e.seq FROM (
                SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
            ) AS c JOIN "railbus".events e ON e.seq = c.seq FOR KEY SHARE OF e
        ), marked AS MATERIALIZED (
            SELECT c.place, c.seq, c.due, c.body,
                k.theirs AND NOT c.rejected AND NOT c.place <@ known AS theirs,
                k.mine AND NOT c.rejected AND NOT c.place <@ known AND coalesce(c.due, 0) <= now AS mine
            FROM chunk c JOIN kinds k ON k.type = c.type AND k.topic = c.topic
            WHERE c.due IS NULL OR c.seq IN (SELECT h.seq FROM held h)
        ), counted AS (
            SELECT m.place, count(*) OVER w AS nth,
                sum(octet_length(m.body)) OVER w - octet_length(m.body) AS before
            FROM marked m WHERE m.mine WINDOW w AS (ORDER BY m.place ROWS UNBOUNDED PRECEDING)
        ), cut AS MATERIALIZED (
            SELECT coalesce(min(c.place), upto + 1) AS place FROM counted c
            WHERE c.nth > room OR c.before >= most_bytes
        ), others AS (
            INSERT INTO "railbus".deliveries (grp, place, seq, due, begun)
            SELECT of_group, m.place, m.seq, coalesce(m.due, 0), false FROM marked m, cut
            WHERE m.theirs AND NOT m.mine AND m.place < cut.place
            ON CONFLICT (grp, place) DO NOTHING
        ), leased AS (
            INSERT INTO "railbus".leases (fence, grp, until, again, places)
            SELECT new_fence, of_group, now + lease, false,
                range_agg(int8range(m.place, m.place, '[]'))
            FROM marked m, cut WHERE m.mine AND m.place < cut.place HAVING count(*) > 0
        ), left_behind AS (
            DELETE FROM "railbus".cursors c WHERE c.grp = of_group AND c.turn = at.turn
        ), moved AS (
            INSERT INTO "railbus".cursors (grp, turn, place, furthest, at)
            SELECT of_group, at.turn + 1, cut.place - 1, greatest(at.furthest, cut.place - 1), now FROM cut
        )
        SELECT m.place, 1, false, NULL::text, m.body, NULL::bigint FROM marked m, cut
        WHERE m.mine AND m.place < cut.place ORDER BY m.place;
        GET DIAGNOSTICS got = ROW_COUNT;
        room := room - got;
        SELECT c.turn, c.place, c.furthest INTO at
        FROM "railbus".cursors c WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1;
        EXIT WHEN at.place < upto;
    END LOOP;
    RETURN QUERY SELECT 0::bigint, 0, false,
        CASE WHEN goes_on THEN upto_due || ' ' || upto_place END, NULL::bytea, CASE
        WHEN room < most OR at.place < newest OR goes_on THEN 0
        WHEN since IS NULL THEN NULL
        ELSE "railbus".next_due(of_group, now) END;
END $$;
-- Tells whether a run counts what becomes of events.
CREATE FUNCTION "railbus".is_counted() RETURNS boolean LANGUAGE plpgsql VOLATILE AS
$$ BEGIN RETURN EXISTS (SELECT FROM "railbus".runs r WHERE NOT r.ended); END $$;

-- Takes places out of the leases of a fence that a group still has; returns those that were there.
CREATE FUNCTION "railbus".release(of_group integer, of_fence bigint, span int8multirange)
RETURNS TABLE (places int8multirange, again boolean)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT l.ctid, l.places, l.again FROM "railbus".leases l
        WHERE l.fence = of_fence AND l.grp = of_group AND l.places && span FOR UPDATE
    LOOP
        IF held.places <@ span THEN
            DELETE FROM "railbus".leases l WHERE l.ctid = held.ctid;
        ELSE
            UPDATE "railbus".leases l SET places = held.places - span WHERE l.ctid = held.ctid;
        END IF;
        RETURN QUERY SELECT held.places * span, held.again;
    END LOOP;
END $$;

-- Closes deliveries of their own. Those with dead letters stay, to be handed back from there.
CREATE FUNCTION "railbus".close(
    of_group integer, closed int8multirange, with_outcome smallint, with_retried boolean,
    counted boolean
) RETURNS void LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    keys text[];
BEGIN
    WITH ended AS MATERIALIZED (
        SELECT d.place, d.key, greatest(d.outcome, with_outcome) AS outcome,
            d.retried OR with_retried OR d.attempt > 1 AS retried,
            EXISTS (SELECT FROM "railbus".letters l WHERE l.seq = d.seq AND l.grp = of_group) AS stays
        FROM unnest(closed) AS span JOIN "railbus".deliveries d
            ON d.grp = of_group AND d.place >= lower(span) AND d.place < upper(span)
    ), kept AS (
        UPDATE "railbus".deliveries d SET open = false, fence = NULL, outcome = e.outcome,
            retried = e.retried FROM ended e WHERE e.stays AND d.grp = of_group AND d.place = e.place
    ), gone AS (
        DELETE FROM "railbus".deliveries d USING ended e
        WHERE NOT e.stays AND d.grp = of_group AND d.place = e.place
    ), counted_too AS (
        INSERT INTO "railbus".settled (grp, places, outcome, retried, highest)
        SELECT of_group, range_agg(int8range(e.place, e.place, '[]')), e.outcome, e.retried, max(e.place)
        FROM ended e WHERE counted GROUP BY e.outcome, e.retried, e.place >> 12
    )
    SELECT array_agg(DISTINCT e.key) INTO keys FROM ended e WHERE e.key IS NOT NULL;
    IF keys IS NOT NULL THEN
        -- After a claim that has just set something aside for one of them.
        PERFORM pg_advisory_xact_lock("railbus".lock_class(), of_group + 16);
        PERFORM "railbus".free_keys(of_group, keys);
    END IF;
END $$;

-- Settles places with nothing to be told but the outcome. Returns, for each of the lists, the
-- places that were held still.
CREATE FUNCTION "railbus".settle(
    of_group integer, fences bigint[], spans text[], outcomes smallint[], retried boolean[]
) RETURNS SETOF text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    counted boolean;
    part record;
    kept int8multirange;
BEGIN
    PERFORM pg_advisory_xact_lock_shared("railbus".lock_class(), 1);
    counted := "railbus".is_counted();
    FOR nth IN 1 .. cardinality(fences) LOOP
        kept := '{}';
        FOR part IN SELECT * FROM "railbus".release(of_group, fences[nth], spans[nth]::int8multirange)
        LOOP
            kept := kept + part.places;
            IF part.again THEN
                PERFORM "railbus".close(of_group, part.places, outcomes[nth], retried[nth], counted);
            ELSIF counted THEN
                INSERT INTO "railbus".settled (grp, places, outcome, retried, highest)
                VALUES (of_group, part.places, outcomes[nth], retried[nth], upper(part.places) - 1);
            END IF;
        END LOOP;
        RETURN NEXT kept::text;
    END LOOP;
END $$;

-- Lets leases begin anew. Returns, for each of the lists, the places that were held still.
CREATE FUNCTION "railbus".extend(of_group integer, fences bigint[], spans text[], lease bigint)
RETURNS SETOF text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    kept int8multirange;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Whoever turns a group to the order of keys waits for this.
    PERFORM pg_advisory_xact_lock_shared("railbus".lock_class(), 1);
    FOR nth IN 1 .. cardinality(fences) LOOP
        kept := '{}';
        FOR part IN SELECT r.again, range_agg(s) AS places
            FROM "railbus".release(of_group, fences[nth], spans[nth]::int8multirange) AS r
            CROSS JOIN LATERAL unnest(r.places) AS s GROUP BY r.again
        LOOP
            kept := kept + part.places;
            INSERT INTO "railbus".leases (fence, grp, until, again, places)
            VALUES (fences[nth], of_group, "railbus".now_micros() + lease, part.again, part.places);
        END LOOP;
        RETURN NEXT kept::text;
    END LOOP;
END $$;

-- Locks leases of single places, and tells what is kept of each that is held still. A run that begins
-- meanwhile waits until they are resolved, as for `settle`.
CREATE FUNCTION "railbus".hold(of_group integer, fences bigint[], at_places bigint[])
RETURNS TABLE (nth bigint, seq bigint, attempt integer, outcome smallint, retried boolean,
    finished text, history text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared("railbus".lock_class(), 1);
    RETURN QUERY WITH held AS MATERIALIZED (
        SELECT w.nth, w.place FROM unnest(fences, at_places) WITH ORDINALITY AS w (fence, place, nth)
        JOIN "railbus".leases l ON l.fence = w.fence AND l.grp = of_group AND l.places @> w.place
        FOR UPDATE OF l
    )
    SELECT h.nth, coalesce(d.seq, "railbus".seq_at(h.place)),
        coalesce(d.attempt, 1), coalesce(d.outcome, 0::smallint), coalesce(d.retried, false),
        d.finished, d.history
    FROM held h LEFT JOIN "railbus".deliveries d ON d.grp = of_group AND d.place = h.place;
END $$;

-- Settles one place that is held, with all there is to tell: `what` is 0 to close it, 1 to have it
-- again after `delay`, below 0 before all others, 2 to go on with it.
CREATE FUNCTION "railbus".resolve(
    of_group integer, of_fence bigint, at_place bigint, of_seq bigint, what integer, delay bigint,
    lease bigint, attempts integer, worst smallint, was_retried boolean, ends text, tries text
) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    now CONSTANT bigint := "railbus".now_micros();
    span CONSTANT int8multirange := int8multirange(int8range(at_place, at_place, '[]'));
BEGIN
    PERFORM FROM "railbus".release(of_group, of_fence, span);
    INSERT INTO "railbus".deliveries AS d
        (grp, place, seq, fence, due, attempt, outcome, retried, finished, history)
    VALUES (of_group, at_place, of_seq, CASE WHEN what = 2 THEN of_fence END,
        CASE WHEN delay < 0 THEN 0 ELSE now + delay END,
        attempts, worst, was_retried OR attempts > 1, ends, tries)
    ON CONFLICT (grp, place) DO UPDATE SET fence = excluded.fence, due = excluded.due,
        attempt = excluded.attempt, outcome = excluded.outcome,
        retried = d.retried OR excluded.retried, finished = excluded.finished,
        history = excluded.history;
    IF what = 0 THEN
        PERFORM "railbus".close(of_group, span, worst, was_retried, "railbus".is_counted());
    ELSIF what = 2 THEN
        INSERT INTO "railbus".leases (fence, grp, until, again, places)
        VALUES (of_fence, of_group, now + lease, true, span);
    END IF;
END $$;
-- Reads events behind a place that one of the pairs wants, whatever groups have come to. `delay`
-- says in how many microseconds one that is held back is due. The last row is no event: it has the
-- place up to which this looked, and as `delay` 1 if there is more.
CREATE FUNCTION "railbus".hear(
    behind bigint, types text[], topics text[], most integer, most_bytes bigint
) RETURNS TABLE (place bigint, delay bigint, body bytea) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    now CONSTANT bigint := "railbus".now_micros();
    newest bigint;
    upto bigint;
BEGIN
    SELECT l.place + l.n - 1 INTO newest FROM "railbus".log l ORDER BY l.place DESC LIMIT 1;
    IF coalesce(newest, 0) - behind < most THEN
        newest := "railbus".tick();
    END IF;
    upto := least(newest, behind + 1024);
    RETURN QUERY WITH chunk AS MATERIALIZED (
        SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.due, e.body
        FROM (
            SELECT l.place, l.first, l.n FROM "railbus".log l
            WHERE l.place <= upto AND l.place >= coalesce((
                SELECT b.place FROM "railbus".log b
                WHERE b.place <= behind + 1 ORDER BY b.place DESC LIMIT 1), 0)
            ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.seq, e.type, e.topic, e.due, e.body FROM "railbus".events e
            WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0)
              AND e.seq < l.first + least(l.n, upto + 1 - l.place) AND NOT e.rejected
            ORDER BY e.seq
        ) AS e
    ), held AS MATERIALIZED (
        -- As a claim has it: what is withdrawn meanwhile is heard by nobody.
        SELECT e.seq FROM (
            SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
        ) AS c JOIN "railbus".events e ON e.seq = c.seq FOR KEY SHARE OF e
    ), kinds AS MATERIALIZED (
        SELECT k.type, k.topic FROM (SELECT DISTINCT c.type, c.topic FROM chunk c) AS k
        WHERE "railbus".wants(types, topics, k.type, k.topic)
    ), counted AS MATERIALIZED (
        SELECT c.place, c.due, c.body, count(*) OVER w AS nth,
            sum(octet_length(c.body)) OVER w - octet_length(c.body) AS before
        FROM chunk c JOIN kinds k ON k.type = c.type AND k.topic = c.topic
        WHERE c.due IS NULL OR c.seq IN (SELECT h.seq FROM held h)
        WINDOW w AS (ORDER BY c.place ROWS UNBOUNDED PRECEDING)
    ), cut AS MATERIALIZED (
        SELECT coalesce(min(c.place), upto + 1) AS place FROM counted c
        WHERE c.nth > most OR c.before >= most_bytes
    )
    (SELECT c.place, greatest(coalesce(c.due, 0) - now, 0), c.body FROM counted c, cut
        WHERE c.place < cut.place ORDER BY c.place)
    UNION ALL
    SELECT greatest(cut.place - 1, behind), (cut.place - 1 < newest)::integer::bigint, NULL FROM cut;
END $$;

-- Reads what was held back, at its places, by now: `delay` says in how many microseconds it is due.
CREATE FUNCTION "railbus".hear_again(at_places bigint[])
RETURNS TABLE (place bigint, delay bigint, body bytea) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY WITH there AS MATERIALIZED (
        SELECT p.place, p.nth, e.due, e.body
        FROM unnest(at_places) WITH ORDINALITY AS p (place, nth)
        JOIN "railbus".events e ON e.seq = "railbus".seq_at(p.place) FOR KEY SHARE OF e
    )
    SELECT t.place, greatest(coalesce(t.due, 0) - "railbus".now_micros(), 0), t.body
    FROM there t ORDER BY t.nth;
END $$;
-- Returns the place right before a start: 0 the oldest, 1 the newest, 2 a time.
CREATE FUNCTION "railbus".before(what integer, at_time bigint, newest bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE what WHEN 0 THEN 0 WHEN 1 THEN newest ELSE coalesce((
        SELECT l.place - 1 FROM "railbus".log l WHERE l.at >= at_time ORDER BY l.place LIMIT 1
    ), newest) END
$$;

-- Returns the newest place, as `tick` left it, which comes first: in a transaction of its own, so that
-- nobody waits for whoever looks through the log then.
CREATE FUNCTION "railbus".newest() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT l.place + l.n - 1 FROM "railbus".log l ORDER BY l.place DESC LIMIT 1), 0)
$$;

-- Opens a group that wants no less than this. Nothing if its interest was not what it was thought
-- to be: look again.
CREATE FUNCTION "railbus".open_group(
    of_name text, thought text, wanted text, of_types text[], of_topics text[], by_key boolean,
    what integer, at_time bigint
) RETURNS TABLE (id integer, keyed boolean) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    newest CONSTANT bigint := "railbus".newest();
    now CONSTANT bigint := "railbus".now_micros();
    opened integer;
BEGIN
    IF by_key AND thought IS NOT NULL THEN
        SELECT g.id INTO opened FROM "railbus".groups g WHERE g.name = of_name AND NOT g.keyed;
        IF FOUND THEN
            -- Before its row, as all have it.
            PERFORM pg_advisory_xact_lock("railbus".lock_class(), 1);
            PERFORM pg_advisory_xact_lock("railbus".lock_class(), opened + 16);
            opened := NULL;
        END IF;
    END IF;
    IF thought IS NULL THEN
        INSERT INTO "railbus".groups (name, interest, types, topics, keyed, seen)
        VALUES (of_name, wanted, of_types, of_topics, by_key, now)
        ON CONFLICT (name) DO NOTHING RETURNING id INTO opened;
        INSERT INTO "railbus".cursors (grp, turn, place, furthest, at)
        SELECT opened, 0, "railbus".before(what, at_time, newest), 0, now WHERE opened IS NOT NULL;
    ELSIF thought = wanted THEN
        SELECT g.id INTO opened FROM "railbus".groups g
        WHERE g.name = of_name AND g.interest = thought;
    ELSE
        UPDATE "railbus".groups g SET interest = wanted, types = of_types, topics = of_topics,
            seen = now
        WHERE g.name = of_name AND g.interest = thought RETURNING g.id INTO opened;
    END IF;
    IF by_key AND EXISTS (SELECT FROM "railbus".groups g WHERE g.id = opened AND NOT g.keyed) THEN
        PERFORM "railbus".keep_order(opened);
    END IF;
    RETURN QUERY SELECT g.id, g.keyed FROM "railbus".groups g WHERE g.id = opened;
END $$;

-- Lists events behind a place, with their places.
CREATE FUNCTION "railbus".events_behind(behind bigint, below bigint DEFAULT 9223372036854775807)
RETURNS TABLE (place bigint, seq bigint, id text, type text, topic text, rejected boolean, run bigint)
LANGUAGE sql STABLE SET jit = off AS $$
    SELECT l.place + e.seq - l.first, e.seq, e.id, e.type, e.topic, e.rejected, e.run
    FROM "railbus".log l CROSS JOIN LATERAL (
        SELECT * FROM "railbus".events e
        WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0) AND e.seq < l.first + l.n
    ) AS e
    WHERE l.place + l.n - 1 > behind AND l.place < below
$$;

CREATE FUNCTION "railbus".list_groups() RETURNS TABLE (
    name text, interest text, seen bigint, lag bigint, leased bigint, letters bigint
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT g.name, g.interest, greatest(g.seen, c.at),
        (SELECT count(*) FROM "railbus".deliveries d WHERE d.grp = g.id AND d.open)
        + coalesce((SELECT sum(upper(p) - lower(p)) FROM "railbus".leases l
            CROSS JOIN LATERAL unnest(l.places) AS p WHERE l.grp = g.id AND NOT l.again), 0)::bigint
        + (SELECT count(*) FROM "railbus".events_behind(c.place) AS e
            WHERE NOT e.rejected AND "railbus".wants(g.types, g.topics, e.type, e.topic)
              AND (c.place >= c.furthest OR NOT e.place <@ g.passed)),
        coalesce((SELECT sum(upper(p) - lower(p)) FROM "railbus".leases l
            CROSS JOIN LATERAL unnest(l.places) AS p
            WHERE l.grp = g.id AND l.until > "railbus".now_micros()), 0)::bigint,
        (SELECT count(*) FROM "railbus".letters l WHERE l.grp = g.id)
    FROM "railbus".groups g CROSS JOIN LATERAL (
        SELECT c.place, c.furthest, c.at FROM "railbus".cursors c
        WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1) AS c
    ORDER BY g.name COLLATE "C";
END $$;

-- Forgets a group; false if there is none of that name.
CREATE FUNCTION "railbus".prune(of_name text) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    SELECT g.id INTO gone FROM "railbus".groups g WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- After all that settle now, and may write a dead letter.
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), 1);
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), gone + 16);
    DELETE FROM "railbus".letters WHERE grp = gone;
    DELETE FROM "railbus".leases WHERE grp = gone;
    DELETE FROM "railbus".deliveries WHERE grp = gone;
    DELETE FROM "railbus".cursors WHERE grp = gone;
    DELETE FROM "railbus".marks WHERE grp = gone;
    DELETE FROM "railbus".settled WHERE grp = gone;
    DELETE FROM "railbus".groups WHERE id = gone;
    RETURN true;
END $$;

-- Lets a group see again what it has settled since a start; what it has not settled stays as it
-- is. Returns how many; nothing if there is no such group.
CREATE FUNCTION "railbus".replay(of_name text, what integer, at_time bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off AS $$
DECLARE
    behind CONSTANT bigint := "railbus".before(what, at_time, "railbus".newest());
    span CONSTANT int8multirange := int8multirange(int8range(behind + 1, NULL));
    the record;
    at record;
    reopened bigint;
    again bigint;
    unsettled int8multirange;
BEGIN
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), g.id + 16)
    FROM "railbus".groups g WHERE g.name = of_name;
    SELECT g.id, g.types, g.topics, g.passed INTO the FROM "railbus".groups g WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT c.turn, c.place, c.furthest INTO at
    FROM "railbus".cursors c WHERE c.grp = the.id ORDER BY c.turn DESC LIMIT 1;
    UPDATE "railbus".deliveries d SET open = true, fence = NULL, due = 0, attempt = 0, begun = false,
        lost = false, outcome = 0, retried = false, finished = NULL, history = NULL
    WHERE d.grp = the.id AND d.place > behind AND NOT d.open;
    GET DIAGNOSTICS reopened = ROW_COUNT;
    -- With what was reopened just now: it has a delivery, and needs no other.
    unsettled := "railbus".open_places(the.id);
    SELECT count(*) INTO again FROM "railbus".events_behind(behind) AS e
    WHERE (e.place <= at.place OR (e.place <= at.furthest AND e.place <@ the.passed)) AND NOT e.rejected
      AND "railbus".wants(the.types, the.topics, e.type, e.topic) AND NOT e.place <@ unsettled;
    -- Of an earlier replay that is not over, what does not begin anew.
    UPDATE "railbus".groups g SET passed = unsettled + CASE WHEN at.place < at.furthest
        THEN the.passed - span ELSE '{}' END WHERE g.id = the.id;
    -- By the marks there are it would be settled: none of it goes until there are new ones.
    DELETE FROM "railbus".marks m WHERE m.grp = the.id;
    UPDATE "railbus".settled s SET places = s.places - span
    WHERE s.grp = the.id AND s.highest > behind AND s.places && span;
    DELETE FROM "railbus".cursors c WHERE c.grp = the.id AND c.turn = at.turn;
    INSERT INTO "railbus".cursors (grp, turn, place, furthest, at)
    VALUES (the.id, at.turn + 1, least(at.place, behind), greatest(at.place, at.furthest),
        "railbus".now_micros());
    RETURN reopened + again;
END $$;

-- Ranks how a subscription got through.
CREATE FUNCTION "railbus".rank_of(how jsonb) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN how = '"unmatched"' THEN 1 WHEN how = '"done"' THEN 2
        WHEN how ? 'failed' THEN 3 ELSE 4 END::smallint
$$;

-- Hands dead letters back, each to the one subscription it failed in; returns how many.
CREATE FUNCTION "railbus".redrive(ids bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    letter record;
    others jsonb;
    redriven bigint := 0;
BEGIN
    FOR letter IN
        SELECT l.id, l.grp, l.place, l.subscription, d.finished
        FROM unnest(ids) WITH ORDINALITY AS wanted (id, nth)
        JOIN "railbus".letters l ON l.id = wanted.id
        JOIN "railbus".deliveries d ON d.grp = l.grp AND d.place = l.place
        ORDER BY wanted.nth FOR UPDATE OF l
    LOOP
        -- Read anew: a letter before may have been of the same event.
        SELECT coalesce(d.finished, '{}')::jsonb - letter.subscription INTO others
        FROM "railbus".deliveries d WHERE d.grp = letter.grp AND d.place = letter.place
            AND (NOT d.open OR (d.fence IS NULL AND d.attempt = 0)) FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        UPDATE "railbus".deliveries d SET open = true, fence = NULL, due = 0, attempt = 0, begun = false,
            lost = false, outcome = coalesce((SELECT max("railbus".rank_of(o.value)) FROM jsonb_each(others) AS o), 0),
            finished = CASE WHEN others <> '{}' THEN others::text END, history = NULL
        WHERE d.grp = letter.grp AND d.place = letter.place;
        UPDATE "railbus".settled s SET places = s.places - int8range(letter.place, letter.place, '[]')::int8multirange
        WHERE s.grp = letter.grp AND s.highest >= letter.place AND s.highest < letter.place + 8192
          AND s.places @> letter.place;
        DELETE FROM "railbus".letters l WHERE l.id = letter.id;
        redriven := redriven + 1;
    END LOOP;
    RETURN redriven;
END $$;

-- Deletes dead letters, with what is kept for them alone; returns how many there were.
CREATE FUNCTION "railbus".purge(ids bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seqs bigint[];
    purged bigint;
BEGIN
    WITH gone AS (
        DELETE FROM "railbus".letters l WHERE l.id = ANY (ids) RETURNING l.seq
    )
    SELECT count(*), array_agg(g.seq) INTO purged, seqs FROM gone g;
    DELETE FROM "railbus".deliveries d WHERE d.seq = ANY (seqs) AND NOT d.open
        AND NOT EXISTS (SELECT FROM "railbus".letters l WHERE l.seq = d.seq AND l.grp = d.grp);
    RETURN purged;
END $$;
-- Begins a run of an app with these groups: `[{"name": .., "types": .., "topics": ..}]`.
CREATE FUNCTION "railbus".begin_run(of_groups jsonb) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    newest CONSTANT bigint := "railbus".newest();
    now CONSTANT bigint := "railbus".now_micros();
    began bigint;
BEGIN
    -- After all that settle now: from here on they see this run.
    PERFORM pg_advisory_xact_lock("railbus".lock_class(), 1);
    DELETE FROM "railbus".run_groups g USING "railbus".runs r
    WHERE g.run = r.id AND r.ended AND r.began_at < now - 7776000000000;
    DELETE FROM "railbus".runs r WHERE r.ended AND r.began_at < now - 7776000000000;
    INSERT INTO "railbus".runs (began_at, seen, newest) VALUES (now, now, newest) RETURNING id INTO began;
    INSERT INTO "railbus".run_groups (run, name, types, topics, place, open)
    SELECT began, said ->> 'name', "railbus".list_of(said -> 'types'), "railbus".list_of(said -> 'topics'),
        coalesce(c.place, 0), coalesce("railbus".open_places(g.id), '{}')
    FROM jsonb_array_elements(of_groups) AS said
    LEFT JOIN "railbus".groups g ON g.name = said ->> 'name'
    LEFT JOIN LATERAL (
        SELECT c.place FROM "railbus".cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c ON true
    ON CONFLICT DO NOTHING;
    RETURN began;
END $$;

-- Notes that runs go on, and ends those that have said nothing for an hour: their process was killed.
CREATE FUNCTION "railbus".keep_runs(going_on bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT bigint := "railbus".now_micros();
BEGIN
    UPDATE "railbus".runs r SET seen = now WHERE r.id = ANY (going_on) AND NOT r.ended;
    PERFORM "railbus".end_run(r.id) FROM "railbus".runs r
    WHERE NOT r.ended AND r.seen < now - 3600000000;
END $$;

CREATE FUNCTION "railbus".end_run(of_run bigint) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE "railbus".runs SET ended = true, swept = NULL WHERE id = of_run;
    DELETE FROM "railbus".settled WHERE NOT "railbus".is_counted();
$$;

-- Counts what became of a run's events, each id by its worst; if they are given, of those alone that
-- retention removes, which are at places from `from_place` to below `to_place`.
-- They are those published during the run, by itself or by no run at all, and those that one of its
-- groups had not settled when it began. One that a group wants but has not settled is in no class.
CREATE FUNCTION "railbus".tally(
    of_run bigint, only_seqs bigint[], from_place bigint, to_place bigint
) RETURNS TABLE (
    published bigint, carried bigint, delivered bigint, succeeded bigint, failed bigint,
    dead bigint, unmatched bigint, retried bigint
) LANGUAGE sql STABLE SET jit = off AS $$
    WITH the AS MATERIALIZED (
        SELECT r.id, r.newest FROM "railbus".runs r WHERE r.id = of_run
    ), mine AS MATERIALIZED (
        SELECT rg.name, rg.types, rg.topics, rg.place AS began, rg.open AS carried, g.id, c.place,
            CASE WHEN only_seqs IS NULL THEN "railbus".open_places(g.id) ELSE '{}' END AS open
        FROM "railbus".run_groups rg LEFT JOIN "railbus".groups g ON g.name = rg.name
        LEFT JOIN LATERAL (
            SELECT c.place FROM "railbus".cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
        ) AS c ON true
        WHERE rg.run = of_run
    ), least_place AS (
        SELECT least((SELECT newest FROM the), (SELECT min(m.began) FROM mine m),
            (SELECT min(lower(m.carried)) - 1 FROM mine m WHERE NOT isempty(m.carried))) AS place
    ), all_events AS MATERIALIZED (
        SELECT e.* FROM least_place CROSS JOIN LATERAL
            "railbus".events_behind(greatest(least_place.place, from_place - 1), to_place) AS e
        WHERE only_seqs IS NULL OR e.seq = ANY (only_seqs)
    ), outcomes AS MATERIALIZED (
        SELECT s.grp, p.place, max(s.outcome) AS outcome, bool_or(s.retried) AS retried
        FROM "railbus".settled s CROSS JOIN LATERAL unnest(s.places) AS span
        CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
        WHERE s.grp IN (SELECT m.id FROM mine m)
          AND s.highest >= from_place AND s.highest < to_place + 8192 GROUP BY s.grp, p.place
    ), held AS MATERIALIZED (
        SELECT d.grp, d.place, d.attempt, d.outcome, d.retried FROM "railbus".deliveries d
        WHERE d.open AND d.grp IN (SELECT m.id FROM mine m) AND only_seqs IS NULL
    ), leased AS MATERIALIZED (
        SELECT l.grp, range_agg(p) AS places FROM "railbus".leases l
        CROSS JOIN LATERAL unnest(l.places) AS p WHERE only_seqs IS NULL GROUP BY l.grp
    ), seen AS MATERIALIZED (
        SELECT e.id, e.place > the.newest AS is_new, e.rejected,
            o.outcome IS NOT NULL OR coalesce(h.attempt, 0) > 0 OR coalesce(h.outcome, 0) > 0
                OR coalesce(e.place <@ l.places, false) AS delivered,
            CASE WHEN m.id IS NULL OR e.rejected THEN false
                 WHEN e.place <@ m.open THEN true
                 ELSE e.place > m.place AND "railbus".wants(m.types, m.topics, e.type, e.topic) END AS open,
            greatest(coalesce(o.outcome, 0), coalesce(h.outcome, 0)) AS outcome,
            coalesce(o.retried, false) OR coalesce(h.retried, false) AS retried
        FROM the CROSS JOIN all_events e LEFT JOIN mine m ON true
        LEFT JOIN outcomes o ON o.grp = m.id AND o.place = e.place
        LEFT JOIN held h ON h.grp = m.id AND h.place = e.place
        LEFT JOIN leased l ON l.grp = m.id
        WHERE (e.place > the.newest AND (e.run = the.id OR e.run IS NULL))
           OR (e.place <= the.newest AND NOT e.rejected AND (e.place <@ m.carried
               OR (e.place > m.began AND "railbus".wants(m.types, m.topics, e.type, e.topic))))
    ), ids AS (
        SELECT bool_or(s.is_new) AS is_new, bool_or(s.delivered) AS delivered,
            bool_or(s.retried) AS retried,
            CASE WHEN bool_or(s.open) THEN 0 WHEN bool_or(s.rejected) THEN 4
                 ELSE greatest(max(s.outcome), 1) END AS class
        FROM seen s GROUP BY s.id
    )
    SELECT count(*) FILTER (WHERE i.is_new), count(*) FILTER (WHERE NOT i.is_new),
        count(*) FILTER (WHERE i.delivered), count(*) FILTER (WHERE i.class = 2),
        count(*) FILTER (WHERE i.class = 3), count(*) FILTER (WHERE i.class = 4),
        count(*) FILTER (WHERE i.class = 1), count(*) FILTER (WHERE i.retried) FROM ids i
$$;

-- Counts as `tally`, with what retention has removed.
CREATE FUNCTION "railbus".count_run(of_run bigint) RETURNS TABLE (
    published bigint, carried bigint, delivered bigint, succeeded bigint, failed bigint,
    dead bigint, unmatched bigint, retried bigint, swept text
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT t.*, (SELECT r.swept FROM "railbus".runs r WHERE r.id = of_run)
    FROM "railbus".tally(of_run, NULL, 0, 1::bigint << 62) AS t;
END $$;

-- Tells whether a group has an unsettled event that a program wants.
CREATE FUNCTION "railbus".is_busy(of_name text, of_types text[], of_topics text[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    the record;
    batch record;
BEGIN
    SELECT g.id, c.place INTO the FROM "railbus".groups g CROSS JOIN LATERAL (
        SELECT c.place FROM "railbus".cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM "railbus".deliveries d JOIN "railbus".events e ON e.seq = d.seq
            WHERE d.grp = the.id AND d.open
              AND "railbus".wants(of_types, of_topics, e.type, e.topic))
        OR EXISTS (SELECT FROM "railbus".leases l CROSS JOIN LATERAL unnest(l.places) AS span
            CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
            JOIN "railbus".events e ON e.seq = "railbus".seq_at(p.place)
            WHERE l.grp = the.id AND NOT l.again
              AND "railbus".wants(of_types, of_topics, e.type, e.topic)) THEN
        RETURN true;
    END IF;
    -- One batch after another, so that the first that is wanted is found at once.
    FOR batch IN
        SELECT l.place, l.first, l.n FROM "railbus".log l
        WHERE l.place + l.n - 1 > the.place AND l.place >= coalesce((
            SELECT b.place FROM "railbus".log b
            WHERE b.place <= the.place + 1 ORDER BY b.place DESC LIMIT 1), 0)
        ORDER BY l.place
    LOOP
        IF EXISTS (SELECT FROM "railbus".events e
            WHERE e.seq >= batch.first + greatest(the.place + 1 - batch.place, 0)
              AND e.seq < batch.first + batch.n AND NOT e.rejected
              AND "railbus".wants(of_types, of_topics, e.type, e.topic)) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- As `is_busy`, for any of the groups `[{"name": .., "types": .., "topics": ..}]`, in one look.
CREATE FUNCTION "railbus".are_busy(of_groups jsonb) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jsonb_array_elements(of_groups) AS said WHERE "railbus".is_busy(
        said ->> 'name', "railbus".list_of(said -> 'types'), "railbus".list_of(said -> 'topics')));
END $$;
-- Removes some of what retention lets go among the batches from place `from_place` on. Returns the
-- lowest place that it found, below which nothing is left, and the place to go on from; that is nothing at
-- the end of what is old enough, or if another session is at it.
--
-- An event goes once it was published longer ago than that and all groups that want it had settled
-- it then. Kept are those with dead letters, and those that are held back still. How long that is says
-- `retention`, or, if that is nothing, what all share.
CREATE FUNCTION "railbus".sweep(
    retention bigint, from_place bigint, begins boolean, OUT low bigint, OUT following bigint
) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    now CONSTANT bigint := "railbus".now_micros();
    kept_for bigint;
    cutoff bigint;
    looked record;
    doomed bigint[];
BEGIN
    IF NOT pg_try_advisory_xact_lock("railbus".lock_class(), 2) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    kept_for := coalesce(retention, (
        SELECT s.value FROM "railbus".settings s WHERE s.name = 'retention'), 86400000000);
    cutoff := now - kept_for;
    IF begins THEN
        PERFORM "railbus".mark(now, kept_for);
    END IF;
    SELECT min(l.place) AS low, max(l.place + l.n) FILTER (WHERE l.is_old) AS upto,
        count(*) FILTER (WHERE l.is_old) AS n INTO looked
    FROM (
        SELECT l.*, sum(l.n) OVER (ORDER BY l.place) - l.n AS before FROM (
            SELECT l.place, l.n, l.at < cutoff OR l.at > now AS is_old FROM "railbus".log l
            WHERE l.place >= from_place ORDER BY l.place LIMIT 200
        ) AS l
    ) AS l WHERE l.before < 20000;
    low := looked.low;
    IF begins THEN
        DELETE FROM "railbus".settled s WHERE s.highest < looked.low;
    END IF;
    IF looked.n = 0 THEN
        RETURN;
    END IF;
    doomed := "railbus".doomed(looked.low, looked.upto, cutoff);
    IF doomed IS NOT NULL THEN
        PERFORM "railbus".remove(doomed, looked.low, looked.upto);
    END IF;
    -- What nothing is left of, but for the newest, which says where to look on.
    DELETE FROM "railbus".log l WHERE l.place >= looked.low AND l.place < looked.upto AND l.at < cutoff
        AND l.place < (SELECT m.place FROM "railbus".log m ORDER BY m.place DESC LIMIT 1)
        AND NOT EXISTS (SELECT FROM "railbus".events e WHERE e.seq >= l.first AND e.seq < l.first + l.n);
    SELECT l.place INTO following FROM "railbus".log l WHERE l.place >= looked.upto
    ORDER BY l.place LIMIT 1;
END $$;

-- Lists events that go, of the batches at places from `low` to below `upto`.
CREATE FUNCTION "railbus".doomed(low bigint, upto bigint, cutoff bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (WITH marked AS MATERIALIZED (
        -- Added to nothing, what may be large is unpacked once, and not for each event.
        SELECT g.types, g.topics, c.place, coalesce(was.place, 0) AS settled_to,
            coalesce(was.open, '{}') + '{}' AS open_then, coalesce(latest.open, '{}') + '{}' AS open_now
        FROM "railbus".groups g CROSS JOIN LATERAL (
            SELECT c.place FROM "railbus".cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
        ) AS c LEFT JOIN LATERAL (
            SELECT m.place, m.open FROM "railbus".marks m
            WHERE m.grp = g.id AND m.at <= cutoff ORDER BY m.at DESC LIMIT 1
        ) AS was ON true LEFT JOIN LATERAL (
            SELECT m.open FROM "railbus".marks m WHERE m.grp = g.id ORDER BY m.at DESC LIMIT 1
        ) AS latest ON true
    )
    SELECT array_agg(e.seq) FROM (
        SELECT l.place + e.seq - l.first AS place, e.* FROM (
            SELECT l.place, l.first, l.n FROM "railbus".log l
            WHERE l.place >= doomed.low AND l.place < doomed.upto AND l.at < cutoff ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.seq, e.type, e.topic, e.due, e.rejected FROM "railbus".events e
            WHERE e.seq >= l.first AND e.seq < l.first + l.n
        ) AS e
    ) AS e
    WHERE coalesce(e.due, 0) < cutoff
      AND NOT EXISTS (SELECT FROM "railbus".letters l WHERE l.seq = e.seq)
      AND NOT EXISTS (SELECT FROM "railbus".deliveries d WHERE d.seq = e.seq)
      AND NOT EXISTS (
          SELECT FROM marked m WHERE NOT e.rejected AND (m.open_now @> e.place OR (
              (m.place < e.place OR m.settled_to < e.place OR m.open_then @> e.place)
              AND "railbus".wants(m.types, m.topics, e.type, e.topic)))));
END $$;

-- Notes what groups have settled by now, now and then, whoever asks for it, and forgets older notes but
-- for the newest that counts.
CREATE FUNCTION "railbus".mark(now bigint, retention bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO "railbus".marks (grp, at, place, open)
    SELECT g.id, now, c.place, coalesce("railbus".open_places(g.id), '{}')
    FROM "railbus".groups g CROSS JOIN LATERAL (
        SELECT c.place FROM "railbus".cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c WHERE NOT EXISTS (SELECT FROM "railbus".marks m
        WHERE m.grp = g.id AND m.at > now - retention / 64 AND m.at <= now)
    ON CONFLICT DO NOTHING;
    DELETE FROM "railbus".marks m USING "railbus".marks newer
    WHERE newer.grp = m.grp AND newer.at > m.at AND newer.at <= now - retention;
    DELETE FROM "railbus".marks m WHERE m.at > now;
$$;

-- Removes events of places from `low` to below `upto`, and what is kept of them; runs count them first.
CREATE FUNCTION "railbus".remove(doomed bigint[], low bigint, upto bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    run record;
    t record;
    was json;
    remaining int8multirange;
BEGIN
    FOR run IN SELECT r.id, r.swept FROM "railbus".runs r WHERE NOT r.ended ORDER BY r.id DESC LIMIT 16
    LOOP
        SELECT * INTO t FROM "railbus".tally(run.id, doomed, low, upto);
        was := coalesce(run.swept, '{}')::json;
        UPDATE "railbus".runs r SET swept = json_build_object(
            'published', t.published + coalesce((was ->> 'published')::bigint, 0),
            'carried', t.carried + coalesce((was ->> 'carried')::bigint, 0),
            'delivered', t.delivered + coalesce((was ->> 'delivered')::bigint, 0),
            'succeeded', t.succeeded + coalesce((was ->> 'succeeded')::bigint, 0),
            'failed', t.failed + coalesce((was ->> 'failed')::bigint, 0),
            'dead_lettered', t.dead + coalesce((was ->> 'dead_lettered')::bigint, 0),
            'unmatched', t.unmatched + coalesce((was ->> 'unmatched')::bigint, 0),
            'retried', t.retried + coalesce((was ->> 'retried')::bigint, 0))::text
        WHERE r.id = run.id;
    END LOOP;
    DELETE FROM "railbus".events e WHERE e.seq = ANY (doomed);
    IF EXISTS (SELECT FROM "railbus".settled) THEN
        remaining := coalesce((SELECT range_agg(int8range(e.place, e.place, '[]'))
            FROM "railbus".events_behind(remove.low - 1, upto) AS e), '{}');
        DELETE FROM "railbus".settled s WHERE s.highest >= remove.low AND s.highest < upto
            AND coalesce(lower(s.places) >= remove.low, true) AND NOT s.places && remaining;
    END IF;
END $$;

-- Removes batches that stand in the log, from number `from_first` on; returns where to go on, and
-- nothing if there are no more.
CREATE FUNCTION "railbus".tidy(from_first bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    state record;
    safe bigint;
    last bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock("railbus".lock_class(), 3) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT l.high, g.gaps, g.old INTO state FROM (
        SELECT l.high, l.missed FROM "railbus".log l ORDER BY l.place DESC LIMIT 1
    ) AS l LEFT JOIN "railbus".gaps g ON g.turn = l.missed;
    -- All below the first gap, and below the newest transaction, of which more may be to come.
    safe := least(state.high >> 20, lower(state.gaps), lower(state.old)) << 20;
    SELECT max(b.first) INTO last FROM (
        SELECT b.first FROM "railbus".batches b
        WHERE b.first >= from_first AND b.first < safe ORDER BY b.first LIMIT 1000
    ) AS b;
    IF last IS NOT NULL THEN
        DELETE FROM "railbus".batches b WHERE b.first >= from_first AND b.first <= last;
    END IF;
    RETURN last + 1;
END $$;

-- Says how long all keep what is settled; returns how long they did, nothing if nobody had said so.
CREATE FUNCTION "railbus".keep_for(retention bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was CONSTANT bigint := (SELECT s.value FROM "railbus".settings s WHERE s.name = 'retention');
BEGIN
    IF was IS DISTINCT FROM retention THEN
        INSERT INTO "railbus".settings (name, value) VALUES ('retention', retention)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN was;
END $$;
INSERT INTO "railbus".migrations (version) VALUES (1);
