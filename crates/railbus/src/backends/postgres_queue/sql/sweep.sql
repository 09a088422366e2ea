-- Removes some of what retention lets go among the batches from place `from_place` on. Returns the
-- lowest place that it found, below which nothing is left, and the place to go on from; that is nothing at
-- the end of what is old enough, or if another session is at it.
--
-- An event goes once it was published longer ago than that and all groups that want it had settled
-- it then. Kept are those with dead letters, and those that are held back still.
CREATE FUNCTION @SCHEMA@.sweep(
    retention bigint, from_place bigint, begins boolean, OUT low bigint, OUT following bigint
) LANGUAGE plpgsql VOLATILE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    now CONSTANT bigint := @SCHEMA@.now_micros();
    cutoff CONSTANT bigint := now - retention;
    looked record;
    doomed bigint[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(@SCHEMA@.lock_class(), 2) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    IF begins THEN
        -- Nobody may consume.
        PERFORM @SCHEMA@.tick();
        PERFORM @SCHEMA@.mark(now, retention);
    END IF;
    SELECT min(l.place) AS low, max(l.place + l.n) FILTER (WHERE l.is_old) AS upto,
        count(*) FILTER (WHERE l.is_old) AS n INTO looked
    FROM (
        SELECT l.place, l.n, l.at < cutoff OR l.at > now AS is_old FROM @SCHEMA@.log l
        WHERE l.place >= from_place ORDER BY l.place LIMIT 200
    ) AS l;
    low := looked.low;
    IF looked.n = 0 THEN
        RETURN;
    END IF;
    SELECT array_agg(e.seq) INTO doomed FROM (
        SELECT l.place + e.seq - l.first AS place, e.* FROM (
            SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
            WHERE l.place >= looked.low AND l.place < looked.upto AND l.at < cutoff ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.seq, e.type, e.topic, e.due, e.rejected FROM @SCHEMA@.events e
            WHERE e.seq >= l.first AND e.seq < l.first + l.n
        ) AS e
    ) AS e
    WHERE coalesce(e.due, 0) < cutoff
      AND NOT EXISTS (SELECT FROM @SCHEMA@.letters l WHERE l.seq = e.seq)
      AND NOT EXISTS (SELECT FROM @SCHEMA@.deliveries d WHERE d.seq = e.seq)
      AND NOT EXISTS (
          SELECT FROM @SCHEMA@.groups g CROSS JOIN LATERAL (
              SELECT c.place, c.furthest FROM @SCHEMA@.cursors c
              WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
          ) AS c
          WHERE NOT e.rejected AND (
              (c.place < e.place AND @SCHEMA@.wants(g.types, g.topics, e.type, e.topic))
              OR (@SCHEMA@.wants(g.types, g.topics, e.type, e.topic) AND NOT coalesce((
                  SELECT m.place >= e.place AND NOT m.open @> e.place FROM @SCHEMA@.marks m
                  WHERE m.grp = g.id AND m.at <= cutoff ORDER BY m.at DESC LIMIT 1), false))
              OR coalesce((SELECT m.open @> e.place FROM @SCHEMA@.marks m
                  WHERE m.grp = g.id ORDER BY m.at DESC LIMIT 1), false)));
    IF doomed IS NOT NULL THEN
        PERFORM @SCHEMA@.remove(doomed);
    END IF;
    -- What nothing is left of, but for the newest, which says where to look on.
    DELETE FROM @SCHEMA@.log l WHERE l.place >= looked.low AND l.place < looked.upto AND l.at < cutoff
        AND l.place < (SELECT m.place FROM @SCHEMA@.log m ORDER BY m.place DESC LIMIT 1)
        AND NOT EXISTS (SELECT FROM @SCHEMA@.events e WHERE e.seq >= l.first AND e.seq < l.first + l.n);
    SELECT l.place INTO following FROM @SCHEMA@.log l WHERE l.place >= looked.upto
    ORDER BY l.place LIMIT 1;
END $$;

-- Notes what groups have settled by now, and forgets older notes but for the newest that counts.
CREATE FUNCTION @SCHEMA@.mark(now bigint, retention bigint) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO @SCHEMA@.marks (grp, at, place, open)
    SELECT g.id, now, c.place, coalesce(@SCHEMA@.open_places(g.id), '{}')
    FROM @SCHEMA@.groups g CROSS JOIN LATERAL (
        SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c ON CONFLICT DO NOTHING;
    DELETE FROM @SCHEMA@.marks m USING @SCHEMA@.marks newer
    WHERE newer.grp = m.grp AND newer.at > m.at AND newer.at <= now - retention;
    DELETE FROM @SCHEMA@.marks m WHERE m.at > now;
$$;

CREATE FUNCTION @SCHEMA@.remove(doomed bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    run record;
    t record;
    was json;
BEGIN
    FOR run IN SELECT r.id, r.swept FROM @SCHEMA@.runs r WHERE NOT r.ended ORDER BY r.id DESC LIMIT 16
    LOOP
        SELECT * INTO t FROM @SCHEMA@.tally(run.id, doomed);
        was := coalesce(run.swept, '{}')::json;
        UPDATE @SCHEMA@.runs r SET swept = json_build_object(
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
    DELETE FROM @SCHEMA@.events e WHERE e.seq = ANY (doomed);
END $$;

-- Removes batches that stand in the log, from number `from_first` on; returns where to go on, and
-- nothing if there are no more.
CREATE FUNCTION @SCHEMA@.tidy(from_first bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    state record;
    safe bigint;
    last bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(@SCHEMA@.lock_class(), 3) THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT l.high, l.gaps, l.old INTO state FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1;
    -- All below the first gap, and below the newest transaction, of which more may be to come.
    safe := least(state.high >> 20, lower(state.gaps), lower(state.old)) << 20;
    SELECT max(b.first) INTO last FROM (
        SELECT b.first FROM @SCHEMA@.batches b
        WHERE b.first >= from_first AND b.first < safe ORDER BY b.first LIMIT 1000
    ) AS b;
    IF last IS NOT NULL THEN
        DELETE FROM @SCHEMA@.batches b WHERE b.first >= from_first AND b.first <= last;
    END IF;
    RETURN last + 1;
END $$;
