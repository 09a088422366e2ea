-- Tells whether a name is as wanted: `=` says that it is the rest, `%` that the rest is a pattern
-- of LIKE, `~` that it is a regular expression.
CREATE FUNCTION @SCHEMA@.fits(name text, wanted text) RETURNS boolean
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
CREATE FUNCTION @SCHEMA@.wants(types text[], topics text[], type text, topic text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF types IS NULL THEN
        RETURN true;
    END IF;
    FOR nth IN 1 .. cardinality(types) LOOP
        IF (types[nth] IS NULL OR @SCHEMA@.fits(type, types[nth]))
            AND (topics[nth] IS NULL OR @SCHEMA@.fits(topic, topics[nth])) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Returns the number of the event at a place; nothing if retention has removed it.
CREATE FUNCTION @SCHEMA@.seq_at(at_place bigint) RETURNS bigint LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT CASE WHEN at_place < l.place + l.n THEN l.first + at_place - l.place END
        FROM @SCHEMA@.log l WHERE l.place <= at_place ORDER BY l.place DESC LIMIT 1);
END $$;

-- Reads a list of texts, of which some may be null.
CREATE FUNCTION @SCHEMA@.list_of(said jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN jsonb_typeof(said) = 'array' THEN ARRAY(
        SELECT v.value FROM jsonb_array_elements_text(said) WITH ORDINALITY AS v (value, nth)
        ORDER BY v.nth) END
$$;

-- Reads what should be a list, and is none where somebody has edited it.
CREATE FUNCTION @SCHEMA@.list_in(said text) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN CASE WHEN json_typeof(said::json) = 'array' THEN said::json ELSE '[]'::json END;
EXCEPTION WHEN invalid_text_representation THEN
    RETURN '[]';
END $$;

-- Adds a failed try to a history, of which the latest twenty are kept.
CREATE FUNCTION @SCHEMA@.lengthen(history text, try text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT json_agg(t.try ORDER BY t.nth)::text FROM (
        SELECT a.try, a.nth FROM (
            SELECT o.try, o.nth FROM json_array_elements(@SCHEMA@.list_in(history))
                WITH ORDINALITY AS o (try, nth)
            UNION ALL SELECT try::json, 9223372036854775807
        ) AS a ORDER BY a.nth DESC LIMIT 20
    ) AS t
$$;

-- Builds the failed try that a lease is that ran out.
CREATE FUNCTION @SCHEMA@.lost_try(attempt integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT json_build_object('attempt', attempt,
        'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'subscription', '',
        'reason', 'the lease ran out unsettled: the process died, or hung')::text
$$;

-- Takes leases of a group that have run out, at `since` or later, apart into single deliveries.
CREATE FUNCTION @SCHEMA@.expire(of_group integer, now bigint, since bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM @SCHEMA@.leases l
        WHERE l.grp = of_group AND l.until >= since AND l.until <= now) THEN
        RETURN;
    END IF;
    WITH over AS MATERIALIZED (
        SELECT l.fence, l.until FROM @SCHEMA@.leases l
        WHERE l.grp = of_group AND l.until >= since AND l.until <= now
        ORDER BY l.until FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM @SCHEMA@.leases l USING over o
        WHERE l.fence = o.fence AND l.until = o.until AND l.grp = of_group RETURNING l.places
    ), single AS (
        SELECT p.place, @SCHEMA@.seq_at(p.place) AS seq
        FROM gone g CROSS JOIN LATERAL unnest(g.places) AS span
        CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
    )
    INSERT INTO @SCHEMA@.deliveries AS d (grp, place, seq, due, attempt, lost, history)
    SELECT of_group, s.place, s.seq, now, 1, true, @SCHEMA@.lengthen(NULL, @SCHEMA@.lost_try(1))
    FROM single s
    WHERE EXISTS (SELECT FROM @SCHEMA@.events e WHERE e.seq = s.seq)
    ON CONFLICT (grp, place) DO UPDATE SET fence = NULL, due = excluded.due, lost = true,
        history = @SCHEMA@.lengthen(d.history, @SCHEMA@.lost_try(d.attempt));
END $$;

-- Returns the places of a group that are not settled, of those it has come to.
CREATE FUNCTION @SCHEMA@.open_places(of_group integer) RETURNS int8multirange
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(range_agg(o.place), '{}') FROM (
        SELECT unnest(l.places) AS place FROM @SCHEMA@.leases l WHERE l.grp = of_group
        UNION ALL SELECT int8range(d.place, d.place, '[]') FROM @SCHEMA@.deliveries d
        WHERE d.grp = of_group AND d.open
    ) AS o);
END $$;

-- Returns in how many microseconds something of a group will be due, of what is not due before a
-- time; nothing if nothing is held.
CREATE FUNCTION @SCHEMA@.next_due(of_group integer, now bigint, from_due bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    held CONSTANT bigint := (SELECT d.due FROM @SCHEMA@.deliveries d
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL
          AND d.due >= from_due AND d.due < 9223372036854775807 ORDER BY d.due LIMIT 1);
    leased CONSTANT bigint := (SELECT l.until FROM @SCHEMA@.leases l
        WHERE l.grp = of_group AND l.until > now ORDER BY l.until LIMIT 1);
BEGIN
    -- What is due and was not claimed is for other members: no need to hurry.
    RETURN least(CASE WHEN held <= now THEN 200000 ELSE held - now END, leased - now);
END $$;

-- Leases up to `most` events to a member: first those that are due again, then new ones.
--
-- Of what is due it looks at no more than 4096 after `after_due` and `after_place`: what is for other
-- members, who may be away, is passed by piece by piece. What is made due is made so under the group's
-- lock, and due then at the earliest: so nothing is missed where a look begins at what was due first
-- when the lock was held last. With `since` 0 it begins at the start, for clocks that are set back, and
-- for what somebody edits.
--
-- The last row has no event: it tells how long there is nothing to claim, in microseconds; below 0
-- that the group is gone, nothing that nobody knows; as `finished` after what to go on, if not all was
-- looked at; and as `attempt` how many milliseconds a look took that began at the start.
CREATE FUNCTION @SCHEMA@.claim(
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
    got integer := 0;
    upto bigint;
    scanned bigint := 0;
    first_new bigint;
    first_due bigint;
    took integer := 0;
    was record;
    is_due boolean;
    goes_on boolean := false;
    upto_due bigint;
    upto_place bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), of_group + 16);
    SELECT c.turn, c.place, c.furthest, c.low, c.since INTO at
    FROM @SCHEMA@.cursors c WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1;
    was := at;
    SELECT l.place + l.n - 1 INTO newest FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1;
    IF coalesce(newest, 0) - at.place < most THEN
        newest := @SCHEMA@.tick();
    END IF;
    -- Only now: what was published once the group wanted it may be in the log by now.
    SELECT g.types, g.topics, g.keyed INTO theirs FROM @SCHEMA@.groups g WHERE g.id = of_group;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 0::bigint, 0, false, NULL::text, NULL::bytea, -1::bigint;
        RETURN;
    END IF;
    now := @SCHEMA@.now_micros();
    IF since IS NOT NULL THEN
        PERFORM @SCHEMA@.expire(of_group, now, since);
    END IF;
    IF since = 0 OR at.since > now THEN
        at.low := 0;
        at.since := 0;
    END IF;
    IF theirs.keyed THEN
        at.low := coalesce((SELECT d.place FROM @SCHEMA@.deliveries d WHERE d.grp = of_group
            AND d.place >= at.low AND d.open ORDER BY d.place LIMIT 1), at.place + 1);
    END IF;
    SELECT d.due INTO first_due FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.open
        AND d.fence IS NULL AND d.due >= at.since AND d.due <= now ORDER BY d.due LIMIT 1;
    IF since = 0 THEN
        took := least(greatest(@SCHEMA@.now_micros() - now, 0) / 1000, 2147483647);
    END IF;
    at.since := coalesce(first_due, now);
    is_due := first_due IS NOT NULL;
    IF after_due < at.since THEN
        after_due := at.since - 1;
        after_place := 9223372036854775807;
    ELSIF is_due THEN
        is_due := EXISTS (SELECT FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.open
            AND d.fence IS NULL AND d.due <= now AND (d.due, d.place) > (after_due, after_place));
    END IF;
    IF is_due THEN
        SELECT d.due, d.place INTO upto_due, upto_place FROM @SCHEMA@.deliveries d
        WHERE d.grp = of_group AND d.open AND d.fence IS NULL AND d.due <= now
          AND (d.due, d.place) > (after_due, after_place)
        ORDER BY d.due, d.place OFFSET 4095 LIMIT 1;
        goes_on := upto_due IS NOT NULL;
        upto_due := coalesce(upto_due, now);
        upto_place := coalesce(upto_place, 9223372036854775807);
    END IF;
    IF is_due THEN
        RETURN QUERY SELECT d.*, NULL::bigint FROM @SCHEMA@.claim_due(of_group, new_fence, now, lease,
            types, topics, room, most_bytes, after_due, after_place, upto_due, upto_place, at.low) AS d;
        GET DIAGNOSTICS got = ROW_COUNT;
        room := room - got;
    END IF;
    IF goes_on AND got > 0 THEN
        -- There may be more of its own there.
        upto_due := after_due;
        upto_place := after_place;
    END IF;
    IF (room <= 0 OR at.place >= newest) AND (at.low, at.since) <> (was.low, was.since)
        AND (got > 0 OR at.low < was.low OR at.since < was.since) THEN
        -- Else it is written below, or nothing went that would be gone through again.
        DELETE FROM @SCHEMA@.cursors c WHERE c.grp = of_group AND c.turn = at.turn;
        at.turn := at.turn + 1;
        INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at, low, since)
        VALUES (of_group, at.turn, at.place, at.furthest, now, at.low, at.since);
    END IF;
    IF room > 0 AND at.place < newest AND at.place < at.furthest THEN
        known := (SELECT g.passed FROM @SCHEMA@.groups g WHERE g.id = of_group);
    END IF;
    WHILE room > 0 AND at.place < newest AND scanned < 4096 LOOP
        -- Never more than 8192 places in one lease: as far do those reach that are settled together.
        upto := least(newest, at.place + least(greatest(room, 64), 4096));
        scanned := scanned + upto - at.place;
        IF theirs.keyed THEN
            PERFORM @SCHEMA@.take_in(
                of_group, at.place, upto, now, theirs.types, theirs.topics, known, at.low);
            first_new := at.place;
            DELETE FROM @SCHEMA@.cursors c WHERE c.grp = of_group AND c.turn = at.turn;
            at.turn := at.turn + 1;
            at.place := upto;
            at.furthest := greatest(at.furthest, upto);
            INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at, low, since)
            VALUES (of_group, at.turn, at.place, at.furthest, now, at.low, at.since);
            RETURN QUERY SELECT k.*, NULL::bigint FROM @SCHEMA@.claim_due(of_group, new_fence, now,
                lease, types, topics, room, most_bytes, now, first_new, now, 9223372036854775807,
                at.low) AS k;
            GET DIAGNOSTICS got = ROW_COUNT;
            room := room - got;
            CONTINUE;
        END IF;
        RETURN QUERY WITH chunk AS MATERIALIZED (
            SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.rejected, e.due, e.body
            FROM (
                SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
                WHERE l.place <= upto AND l.place >= coalesce((
                    SELECT b.place FROM @SCHEMA@.log b
                    WHERE b.place <= at.place + 1 ORDER BY b.place DESC LIMIT 1), 0)
                ORDER BY l.place
            ) AS l CROSS JOIN LATERAL (
                SELECT e.seq, e.type, e.topic, e.rejected, e.due, e.body FROM @SCHEMA@.events e
                WHERE e.seq >= l.first + greatest(at.place + 1 - l.place, 0)
                  AND e.seq < l.first + least(l.n, upto + 1 - l.place)
                ORDER BY e.seq
            ) AS e
        ), kinds AS MATERIALIZED (
            SELECT k.type, k.topic, @SCHEMA@.wants(types, topics, k.type, k.topic) AS mine,
                @SCHEMA@.wants(theirs.types, theirs.topics, k.type, k.topic) AS theirs
            FROM (SELECT DISTINCT c.type, c.topic FROM chunk c) AS k
        ), held AS MATERIALIZED (
            -- Locked, so that it is not withdrawn meanwhile; one that just was is not there.
            SELECT e.seq FROM (
                SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
            ) AS c JOIN @SCHEMA@.events e ON e.seq = c.seq FOR KEY SHARE OF e
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
            INSERT INTO @SCHEMA@.deliveries (grp, place, seq, due, begun)
            SELECT of_group, m.place, m.seq, greatest(m.due, now), false FROM marked m, cut
            WHERE m.theirs AND NOT m.mine AND m.place < cut.place
            ON CONFLICT (grp, place) DO NOTHING
        ), leased AS (
            INSERT INTO @SCHEMA@.leases (fence, grp, until, again, places)
            SELECT new_fence, of_group, now + lease, false,
                range_agg(int8range(m.place, m.place, '[]'))
            FROM marked m, cut WHERE m.mine AND m.place < cut.place HAVING count(*) > 0
        ), left_behind AS (
            DELETE FROM @SCHEMA@.cursors c WHERE c.grp = of_group AND c.turn = at.turn
        ), moved AS (
            INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at, low, since)
            SELECT of_group, at.turn + 1, cut.place - 1, greatest(at.furthest, cut.place - 1), now,
                at.low, at.since FROM cut
        )
        SELECT m.place, 1, false, NULL::text, m.body, NULL::bigint FROM marked m, cut
        WHERE m.mine AND m.place < cut.place ORDER BY m.place;
        GET DIAGNOSTICS got = ROW_COUNT;
        room := room - got;
        SELECT c.turn, c.place, c.furthest, c.low, c.since INTO at
        FROM @SCHEMA@.cursors c WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1;
        EXIT WHEN at.place < upto;
    END LOOP;
    RETURN QUERY SELECT 0::bigint, took, false,
        CASE WHEN goes_on THEN upto_due || ' ' || upto_place END, NULL::bytea, CASE
        WHEN room < most OR at.place < newest OR goes_on THEN 0
        WHEN since IS NULL THEN NULL
        ELSE @SCHEMA@.next_due(of_group, now, at.since) END;
END $$;
