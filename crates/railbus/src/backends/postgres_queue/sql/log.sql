-- Puts batches that were committed in order, and returns the newest place. It must be the first to
-- write in its transaction: the transaction's id, drawn after looking, is higher than that of any
-- that had drawn numbers before.
CREATE FUNCTION @SCHEMA@.tick() RETURNS bigint LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    state record;
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
    SELECT l.place + l.n - 1 AS newest, l.high, l.gaps, l.bound, l.old, l.old_bound
    INTO state FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1;
    newest := coalesce(state.newest, 0);
    state.high := coalesce(state.high, 0);
    state.gaps := coalesce(state.gaps, '{}');
    state.old := coalesce(state.old, '{}');
    SELECT array_agg(b.first ORDER BY b.first), array_agg(b.n ORDER BY b.first),
        array_agg(b.at ORDER BY b.first), max(b.first),
        range_agg(int8range(b.first >> 20, b.first >> 20, '[]'))
    INTO firsts, ns, ats, top, ids
    FROM (
        SELECT late.* FROM unnest(state.gaps + state.old) AS gap CROSS JOIN LATERAL (
            SELECT b.first, b.n, b.at FROM @SCHEMA@.batches b
            WHERE b.first >= lower(gap) << 20 AND b.first < upper(gap) << 20 ORDER BY b.first
        ) AS late
        UNION ALL
        (SELECT b.first, b.n, b.at FROM @SCHEMA@.batches b
            WHERE b.first > state.high ORDER BY b.first LIMIT 1000)
    ) AS b;
    IF ids IS NULL THEN
        RETURN newest;
    END IF;
    state.gaps := state.gaps - ids;
    state.old := state.old - ids;
    IF horizon >= coalesce(state.old_bound, horizon) THEN
        state.old := state.gaps;
        state.old_bound := state.bound;
        state.gaps := '{}';
    END IF;
    IF top > state.high THEN
        missing := int8multirange(int8range((state.high >> 20) + 1, (top >> 20) + 1)) - ids;
        IF NOT isempty(missing) THEN
            state.gaps := state.gaps + missing;
            state.bound := pg_current_xact_id();
        END IF;
        state.high := top;
    END IF;
    INSERT INTO @SCHEMA@.log (place, first, n, at)
    SELECT newest + 1 + sum(b.n) OVER (ORDER BY b.nth) - b.n, b.first, b.n, b.at
    FROM unnest(firsts, ns, ats) WITH ORDINALITY AS b (first, n, at, nth)
    WHERE b.nth < cardinality(firsts);
    newest := newest + (SELECT sum(n) FROM unnest(ns) AS n);
    top := cardinality(firsts);
    INSERT INTO @SCHEMA@.log (place, first, n, at, high, gaps, bound, old, old_bound)
    VALUES (newest + 1 - ns[top], firsts[top], ns[top], ats[top],
        state.high, state.gaps, state.bound, state.old, state.old_bound);
    RETURN newest;
END $$;
