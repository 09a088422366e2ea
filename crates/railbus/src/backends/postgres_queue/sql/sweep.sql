-- Removes some of what retention lets go among the batches from place `from_place` on. Returns the
-- lowest place that it found, below which nothing is left, and the place to go on from; that is
-- nothing at the end of what was old enough at `as_of`, or if another session is at it. A round begins
-- with no `as_of`, and keeps what that is then: else it would go on for as long as there is more.
-- `looked_at` counts the events that it went through, `gone` those of them that it removed.
--
-- An event goes once it was published longer ago than that and all groups that want it had settled
-- it then. Kept are those with dead letters, and those that are held back still. How long that is
-- says `retention`, or, if that is nothing, what all share.
CREATE FUNCTION @SCHEMA@.sweep(
    retention bigint, from_place bigint, INOUT as_of bigint, OUT low bigint, OUT following bigint,
    OUT looked_at bigint, OUT gone bigint
) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    begins CONSTANT boolean := as_of IS NULL;
    now bigint;
    kept_for bigint;
    cutoff bigint;
    looked record;
    doomed bigint[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(@SCHEMA@.lock_class(), 2) THEN
        RETURN;
    END IF;
    now := @SCHEMA@.now_micros();
    PERFORM set_config('synchronous_commit', 'off', true);
    kept_for := coalesce(retention, (
        SELECT s.value FROM @SCHEMA@.settings s WHERE s.name = 'retention'), 86400000000);
    as_of := least(as_of, now);
    -- Not of `as_of`: others forget the marks that do not count by now, whoever's round goes on.
    cutoff := now - kept_for;
    IF begins THEN
        PERFORM @SCHEMA@.mark(now, kept_for);
    END IF;
    SELECT min(l.place) AS low, max(l.place + l.n) FILTER (WHERE l.is_old) AS upto,
        count(*) FILTER (WHERE l.is_old) AS n INTO looked
    FROM (
        SELECT l.*, sum(l.n) OVER (ORDER BY l.place) - l.n AS before FROM (
            SELECT l.place, l.n, l.at < as_of - kept_for OR l.at > now AS is_old
            FROM @SCHEMA@.log l WHERE l.place >= from_place ORDER BY l.place LIMIT 200
        ) AS l
    ) AS l WHERE l.before < 20000;
    low := looked.low;
    looked_at := 0;
    gone := 0;
    IF begins THEN
        DELETE FROM @SCHEMA@.settled s WHERE s.highest < looked.low;
    END IF;
    IF looked.n = 0 THEN
        RETURN;
    END IF;
    SELECT d.seqs, d.looked_at INTO doomed, looked_at
    FROM @SCHEMA@.doomed(looked.low, looked.upto, cutoff) AS d;
    IF doomed IS NOT NULL THEN
        gone := cardinality(doomed);
        PERFORM @SCHEMA@.remove(doomed, looked.low, looked.upto);
    END IF;
    -- What nothing is left of, but for the newest, which says where to look on.
    DELETE FROM @SCHEMA@.log l
    WHERE l.place >= looked.low AND l.place < looked.upto AND l.at < cutoff
        AND l.place < (SELECT m.place FROM @SCHEMA@.log m ORDER BY m.place DESC LIMIT 1)
        AND NOT EXISTS (
            SELECT FROM @SCHEMA@.events e WHERE e.seq >= l.first AND e.seq < l.first + l.n);
    SELECT l.place INTO following FROM @SCHEMA@.log l WHERE l.place >= looked.upto
    ORDER BY l.place LIMIT 1;
END $$;

-- Lists events that go, of the batches at places from `low` to below `upto`, and tells of how many.
-- What is not there counts for nothing, however many places it had.
CREATE FUNCTION @SCHEMA@.doomed(
    low bigint, upto bigint, cutoff bigint, OUT seqs bigint[], OUT looked_at bigint
) LANGUAGE plpgsql STABLE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    WITH marked AS MATERIALIZED (
        -- Added to nothing, what may be large is unpacked once, and not for each event.
        SELECT g.types, g.topics, c.place, coalesce(was.place, 0) AS settled_to,
            coalesce(was.open, '{}') + '{}' AS open_then, coalesce(latest.open, '{}') + '{}' AS open_now
        FROM @SCHEMA@.groups g CROSS JOIN LATERAL (
            SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
        ) AS c LEFT JOIN LATERAL (
            SELECT m.place, m.open FROM @SCHEMA@.marks m
            WHERE m.grp = g.id AND m.at <= cutoff ORDER BY m.at DESC LIMIT 1
        ) AS was ON true LEFT JOIN LATERAL (
            SELECT m.open FROM @SCHEMA@.marks m WHERE m.grp = g.id ORDER BY m.at DESC LIMIT 1
        ) AS latest ON true
    ), old AS MATERIALIZED (
        SELECT l.place + e.seq - l.first AS place, e.* FROM (
            SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
            WHERE l.place >= doomed.low AND l.place < doomed.upto AND l.at < cutoff ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            -- In order, or else the planner goes through all events to find those of the log.
            SELECT e.seq, e.type, e.topic, e.due, e.rejected FROM @SCHEMA@.events e
            WHERE e.seq >= l.first AND e.seq < l.first + l.n ORDER BY e.seq
        ) AS e
    )
    SELECT array_agg(e.seq), (SELECT count(*) FROM old) INTO seqs, looked_at FROM old e
    WHERE coalesce(e.due, 0) < cutoff
      AND NOT EXISTS (SELECT FROM @SCHEMA@.letters l WHERE l.seq = e.seq)
      AND NOT EXISTS (SELECT FROM @SCHEMA@.deliveries d WHERE d.seq = e.seq)
      AND NOT EXISTS (
          SELECT FROM marked m WHERE NOT e.rejected AND (m.open_now @> e.place OR (
              (m.place < e.place OR m.settled_to < e.place OR m.open_then @> e.place)
              AND @SCHEMA@.wants(m.types, m.topics, e.type, e.topic))));
END $$;

-- Notes what groups have settled by now, now and then, whoever asks for it, and forgets older notes but
-- for the newest that counts. Each group's place and what is open before it are of one moment.
CREATE FUNCTION @SCHEMA@.mark(now bigint, retention bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    due integer;
    began bigint;
BEGIN
    FOR due IN
        SELECT g.id FROM @SCHEMA@.groups g WHERE NOT EXISTS (
            SELECT FROM @SCHEMA@.marks m
            WHERE m.grp = g.id AND m.at <= now AND m.at > now - greatest(retention, m.took * 4096) / 64)
    LOOP
        began := @SCHEMA@.now_micros();
        INSERT INTO @SCHEMA@.marks (grp, at, place, open)
        SELECT due, began, c.place, coalesce(@SCHEMA@.open_places(due), '{}') FROM (
            SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = due ORDER BY c.turn DESC LIMIT 1
        ) AS c ON CONFLICT DO NOTHING;
        UPDATE @SCHEMA@.marks m SET took = greatest(@SCHEMA@.now_micros() - began, 0)
        WHERE m.grp = due AND m.at = began;
    END LOOP;
    DELETE FROM @SCHEMA@.marks m USING @SCHEMA@.marks newer
    WHERE newer.grp = m.grp AND newer.at > m.at AND newer.at <= now - retention;
    DELETE FROM @SCHEMA@.marks m WHERE m.at > @SCHEMA@.now_micros();
END $$;

-- Removes events of places from `low` to below `upto`, and what is kept of them; runs count them
-- first.
CREATE FUNCTION @SCHEMA@.remove(doomed bigint[], low bigint, upto bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    run record;
    t record;
    was json;
    remaining int8multirange;
BEGIN
    FOR run IN SELECT r.id, r.swept FROM @SCHEMA@.runs r WHERE NOT r.ended ORDER BY r.id DESC LIMIT 16
    LOOP
        SELECT * INTO t FROM @SCHEMA@.tally(run.id, doomed, low, upto);
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
    IF EXISTS (SELECT FROM @SCHEMA@.settled) THEN
        remaining := coalesce((SELECT range_agg(int8range(e.place, e.place, '[]'))
            FROM @SCHEMA@.events_behind(remove.low - 1, upto) AS e), '{}');
        DELETE FROM @SCHEMA@.settled s WHERE s.highest >= remove.low AND s.highest < upto
            AND coalesce(lower(s.places) >= remove.low, true) AND NOT s.places && remaining;
    END IF;
END $$;

-- Removes batches that stand in the log, from number `from_first` on; returns where to go on, and
-- nothing if there are no more.
CREATE FUNCTION @SCHEMA@.tidy(from_first bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
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
    SELECT l.high, g.gaps, g.old INTO state FROM (
        SELECT l.high, l.missed FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1
    ) AS l LEFT JOIN @SCHEMA@.gaps g ON g.turn = l.missed;
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

-- Says how long all keep what is settled; returns how long they did, nothing if nobody had said so.
CREATE FUNCTION @SCHEMA@.keep_for(retention bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    was CONSTANT bigint := (SELECT s.value FROM @SCHEMA@.settings s WHERE s.name = 'retention');
BEGIN
    IF was IS DISTINCT FROM retention THEN
        INSERT INTO @SCHEMA@.settings (name, value) VALUES ('retention', retention)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN was;
END $$;
