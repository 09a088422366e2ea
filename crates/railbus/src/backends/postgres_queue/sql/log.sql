-- Puts batches that were committed in order, and returns the newest place. It must be the first to
-- write in its transaction: the transaction's id, drawn after looking, is higher than that of any
-- that had drawn numbers before.
CREATE FUNCTION @SCHEMA@.tick() RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    state record;
    late @SCHEMA@.gaps;
    was @SCHEMA@.gaps;
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
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), 0);
    -- Before looking: what is missing from behind this horizon then will never come.
    horizon := pg_snapshot_xmin(pg_current_snapshot());
    SELECT l.place + l.n - 1 AS newest, l.high, l.missed
    INTO state FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1;
    newest := coalesce(state.newest, 0);
    state.high := coalesce(state.high, 0);
    IF state.missed IS NOT NULL THEN
        SELECT * INTO late FROM @SCHEMA@.gaps g WHERE g.turn = state.missed;
        was := late;
        late := @SCHEMA@.ask(late);
    END IF;
    SELECT array_agg(b.first ORDER BY b.first), array_agg(b.n ORDER BY b.first),
        array_agg(b.at ORDER BY b.first), max(b.first),
        range_agg(int8range(b.first >> 20, b.first >> 20, '[]'))
    INTO firsts, ns, ats, top, ids
    FROM (
        SELECT late_one.* FROM unnest(late.gaps + late.old) AS gap CROSS JOIN LATERAL (
            SELECT b.first, b.n, b.at FROM @SCHEMA@.batches b
            WHERE b.first >= lower(gap) << 20 AND b.first < upper(gap) << 20 ORDER BY b.first
        ) AS late_one
        UNION ALL
        (SELECT b.first, b.n, b.at FROM @SCHEMA@.batches b
            WHERE b.first > state.high ORDER BY b.first LIMIT 1000)
    ) AS b;
    IF ids IS NULL THEN
        IF coalesce(pg_sequence_last_value('@SCHEMA@.transactions'::regclass), 0) < state.high >> 20
        THEN
            PERFORM @SCHEMA@.catch_up(state.high);
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
        state.missed := @SCHEMA@.write_gaps(late);
    END IF;
    INSERT INTO @SCHEMA@.log (place, first, n, at)
    SELECT newest + 1 + sum(b.n) OVER (ORDER BY b.nth) - b.n, b.first, b.n, b.at
    FROM unnest(firsts, ns, ats) WITH ORDINALITY AS b (first, n, at, nth)
    WHERE b.nth < cardinality(firsts);
    newest := newest + (SELECT sum(n) FROM unnest(ns) AS n);
    top := cardinality(firsts);
    INSERT INTO @SCHEMA@.log (place, first, n, at, high, missed)
    VALUES (newest + 1 - ns[top], firsts[top], ns[top], ats[top], state.high, state.missed);
    RETURN newest;
END $$;

-- Writes gaps in place of those before; returns their turn, nothing if there are none.
CREATE FUNCTION @SCHEMA@.write_gaps(late @SCHEMA@.gaps) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    following CONSTANT bigint := 1 + coalesce((
        SELECT g.turn FROM @SCHEMA@.gaps g ORDER BY g.turn DESC LIMIT 1), 0);
BEGIN
    IF isempty(late.gaps) AND isempty(coalesce(late.old, '{}')) THEN
        DELETE FROM @SCHEMA@.gaps g WHERE g.turn = late.turn;
        RETURN NULL;
    END IF;
    DELETE FROM @SCHEMA@.gaps g WHERE g.turn = late.turn;
    INSERT INTO @SCHEMA@.gaps (turn, gaps, bound, old, old_bound, asked, busy)
    VALUES (following, late.gaps, late.bound, coalesce(late.old, '{}'), late.old_bound,
        coalesce(late.asked, '{}'), late.busy);
    RETURN following;
END $$;

-- Asks, where there are many gaps since an old transaction keeps the horizon, which of those that
-- publish are not over: each holds a lock of the sequence since before it drew its number.
CREATE FUNCTION @SCHEMA@.ask(late @SCHEMA@.gaps) RETURNS @SCHEMA@.gaps LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    publishing text[];
BEGIN
    IF (SELECT count(*) FROM unnest(late.gaps + late.old)) < 100 THEN
        RETURN late;
    END IF;
    publishing := ARRAY(SELECT l.virtualtransaction FROM pg_locks l
        WHERE l.locktype = 'relation' AND l.relation = '@SCHEMA@.transactions'::regclass
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
CREATE FUNCTION @SCHEMA@.catch_up(high bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    late @SCHEMA@.gaps;
BEGIN
    PERFORM setval('@SCHEMA@.transactions'::regclass, high >> 20);
    late.turn := (SELECT max(g.turn) FROM @SCHEMA@.gaps g);
    late.gaps := int8multirange(int8range(1, (high >> 20) + 1)) - coalesce((
        SELECT range_agg(int8range(b.first >> 20, b.first >> 20, '[]')) FROM @SCHEMA@.batches b
        WHERE b.first <= high AND EXISTS (
            SELECT FROM @SCHEMA@.log l WHERE l.first = b.first AND l.at = b.at)), '{}');
    late.bound := pg_current_xact_id();
    UPDATE @SCHEMA@.log l SET missed = @SCHEMA@.write_gaps(late)
    WHERE l.place = (SELECT m.place FROM @SCHEMA@.log m ORDER BY m.place DESC LIMIT 1);
END $$;

-- Lists events behind a place, with their places.
CREATE FUNCTION @SCHEMA@.events_behind(behind bigint, below bigint DEFAULT 9223372036854775807)
RETURNS TABLE (place bigint, seq bigint, id text, type text, topic text, rejected boolean, run bigint)
LANGUAGE sql STABLE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT l.place + e.seq - l.first, e.seq, e.id, e.type, e.topic, e.rejected, e.run
    FROM @SCHEMA@.log l CROSS JOIN LATERAL (
        -- In order, as it is for what is removed.
        SELECT * FROM @SCHEMA@.events e
        WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0) AND e.seq < l.first + l.n
        ORDER BY e.seq
    ) AS e
    WHERE l.place < below AND l.place >= coalesce((SELECT b.place FROM @SCHEMA@.log b
        WHERE b.place <= behind + 1 ORDER BY b.place DESC LIMIT 1), 0)
$$;
