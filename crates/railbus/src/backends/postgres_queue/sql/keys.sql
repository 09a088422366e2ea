-- Order by key. An event that waits for an earlier one of its key is due at no time, the highest
-- there is; whoever settles the one before makes it due. Which event holds a key is asked whenever
-- one is about to be leased, so that those that became due in other ways keep the order as well. In
-- a group that keeps it, all that is leased has a delivery of its own. No place below `low` is open.
--
-- Takes new events of a group in, up to a place, as deliveries: those whose key is free are due.
CREATE FUNCTION @SCHEMA@.take_in(
    of_group integer, behind bigint, upto bigint, now bigint, types text[], topics text[],
    known int8multirange, low bigint
) RETURNS void LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    WITH chunk AS MATERIALIZED (
        SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.key, e.due
        FROM (
            SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
            WHERE l.place <= upto AND l.place >= coalesce((
                SELECT b.place FROM @SCHEMA@.log b
                WHERE b.place <= behind + 1 ORDER BY b.place DESC LIMIT 1), 0)
            ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.* FROM @SCHEMA@.events e
            WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0)
              AND e.seq < l.first + least(l.n, upto + 1 - l.place) AND NOT e.rejected
        ) AS e
    ), held AS MATERIALIZED (
        -- As a claim has it: what is withdrawn meanwhile is not taken in.
        SELECT e.seq FROM (
            SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
        ) AS c JOIN @SCHEMA@.events e ON e.seq = c.seq FOR KEY SHARE OF e
    )
    INSERT INTO @SCHEMA@.deliveries (grp, place, seq, key, begun, due)
    SELECT of_group, w.place, w.seq, w.key, false, CASE
        WHEN w.due > now THEN w.due
        WHEN w.key IS NULL THEN now
        WHEN w.nth > 1 OR coalesce((
            -- Looked up one by one: as EXISTS the server might read those of all keys instead.
            SELECT true FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.key = w.key AND d.open
              AND d.place >= low AND d.due = 9223372036854775807 LIMIT 1
        ), (
            SELECT true FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.key = w.key AND d.open
              AND d.place >= low AND d.due < 9223372036854775807
              AND (d.fence IS NOT NULL OR d.begun OR d.due <= now) LIMIT 1
        ), false) THEN 9223372036854775807
        ELSE now END
    FROM (
        SELECT c.*, row_number() OVER (
            PARTITION BY c.key, coalesce(c.due, 0) > now ORDER BY c.place) AS nth
        FROM chunk c
        WHERE (c.due IS NULL OR c.seq IN (SELECT h.seq FROM held h))
          AND NOT c.place <@ known AND @SCHEMA@.wants(types, topics, c.type, c.topic)
    ) AS w ON CONFLICT (grp, place) DO NOTHING;
END $$;

-- Leases deliveries that are due, behind one and up to another, one of each key; those whose key is
-- held are set aside. Each is looked up by its place, for the reason that `close` has.
CREATE FUNCTION @SCHEMA@.claim_due(
    of_group integer, new_fence bigint, now bigint, lease bigint, types text[], topics text[],
    most integer, most_bytes bigint, after_due bigint, after_place bigint, upto_due bigint,
    upto_place bigint, low bigint
) RETURNS TABLE (place bigint, attempt integer, lost boolean, finished text, body bytea)
LANGUAGE plpgsql VOLATILE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    one record;
    taken bigint[] := '{}';
    parked integer := 0;
    size bigint := 0;
BEGIN
    FOR one IN
        SELECT d.place, d.key, d.begun, d.attempt, d.lost, d.finished, e.body FROM @SCHEMA@.deliveries d
        JOIN @SCHEMA@.events e ON e.seq = d.seq
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL
          AND (d.due, d.place) > (after_due, after_place) AND (d.due, d.place) <= (upto_due, upto_place)
          AND @SCHEMA@.wants(types, topics, e.type, e.topic)
        ORDER BY d.due, d.place FOR UPDATE OF d SKIP LOCKED
    LOOP
        EXIT WHEN cardinality(taken) >= most OR size >= most_bytes OR parked >= 4096;
        IF one.key IS NOT NULL AND EXISTS (
            SELECT FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.key = one.key AND d.open
              AND d.place >= low AND d.place <> one.place AND d.due < 9223372036854775807
              AND (d.fence IS NOT NULL OR (d.begun AND (NOT one.begun OR d.place < one.place))
                   OR (d.due <= now AND NOT one.begun AND d.place < one.place))
        ) THEN
            UPDATE @SCHEMA@.deliveries d SET due = 9223372036854775807
            WHERE d.grp = of_group AND d.place = one.place;
            parked := parked + 1;
            CONTINUE;
        END IF;
        UPDATE @SCHEMA@.deliveries d SET fence = new_fence, attempt = d.attempt + 1, begun = true,
            lost = false, retried = d.retried OR d.attempt > 0
        WHERE d.grp = of_group AND d.place = one.place;
        taken := taken || one.place;
        size := size + octet_length(one.body);
        RETURN QUERY SELECT one.place, one.attempt + 1, one.lost, one.finished, one.body;
    END LOOP;
    INSERT INTO @SCHEMA@.leases (fence, grp, until, again, places)
    SELECT new_fence, of_group, now + lease, true, range_agg(int8range(t.place, t.place, '[]'))
    FROM unnest(taken) AS t (place) HAVING count(*) > 0;
END $$;

-- Says that a place may be open again which was not. The group's lock is held.
CREATE FUNCTION @SCHEMA@.come_back(of_group integer, at_place bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    UPDATE @SCHEMA@.cursors c SET low = at_place WHERE c.grp = of_group AND c.low > at_place
        AND c.turn = (SELECT n.turn FROM @SCHEMA@.cursors n
            WHERE n.grp = of_group ORDER BY n.turn DESC LIMIT 1);
END $$;

-- Makes due what has waited longest for each of the keys. The group's lock is held.
CREATE FUNCTION @SCHEMA@.free_keys(of_group integer, keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    low CONSTANT bigint := (SELECT c.low FROM @SCHEMA@.cursors c
        WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1);
    freed text;
BEGIN
    FOR freed IN SELECT DISTINCT k.key FROM unnest(keys) AS k (key) LOOP
        UPDATE @SCHEMA@.deliveries d SET due = @SCHEMA@.now_micros()
        WHERE d.grp = of_group AND d.place = (
            SELECT n.place FROM @SCHEMA@.deliveries n
            WHERE n.grp = of_group AND n.key = freed AND n.open AND n.due = 9223372036854775807
              AND n.place >= low ORDER BY n.place LIMIT 1);
    END LOOP;
END $$;

-- Lets a group keep the order of keys from here on. Its lock is held, and that of runs: nobody is
-- about to settle or extend a lease that is made into deliveries here.
CREATE FUNCTION @SCHEMA@.keep_order(of_group integer) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO @SCHEMA@.deliveries (grp, place, seq, fence, due, attempt)
    SELECT of_group, p.place, @SCHEMA@.seq_at(p.place), l.fence, l.until, 1
    FROM @SCHEMA@.leases l CROSS JOIN LATERAL unnest(l.places) AS span
    CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
    WHERE l.grp = of_group AND NOT l.again AND @SCHEMA@.seq_at(p.place) IS NOT NULL;
    UPDATE @SCHEMA@.leases l SET again = true WHERE l.grp = of_group;
    UPDATE @SCHEMA@.deliveries d SET key = e.key FROM @SCHEMA@.events e
    WHERE d.grp = of_group AND d.open AND e.seq = d.seq;
    UPDATE @SCHEMA@.groups g SET keyed = true WHERE g.id = of_group;
    PERFORM @SCHEMA@.come_back(of_group, 0);
END $$;
