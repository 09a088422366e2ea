-- Begins a run of an app with these groups: `[{"name": .., "types": .., "topics": ..}]`.
CREATE FUNCTION @SCHEMA@.begin_run(of_groups jsonb) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    newest CONSTANT bigint := @SCHEMA@.newest();
    now CONSTANT bigint := @SCHEMA@.now_micros();
    began bigint;
BEGIN
    -- After all that settle now: from here on they see this run.
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), 1);
    DELETE FROM @SCHEMA@.run_groups g USING @SCHEMA@.runs r
    WHERE g.run = r.id AND r.ended AND r.began_at < now - 7776000000000;
    DELETE FROM @SCHEMA@.runs r WHERE r.ended AND r.began_at < now - 7776000000000;
    INSERT INTO @SCHEMA@.runs (began_at, seen, newest) VALUES (now, now, newest)
    RETURNING id INTO began;
    INSERT INTO @SCHEMA@.run_groups (run, name, types, topics, place, open)
    SELECT began, said ->> 'name',
        @SCHEMA@.list_of(said -> 'types'), @SCHEMA@.list_of(said -> 'topics'),
        coalesce(c.place, 0), coalesce(@SCHEMA@.open_places(g.id), '{}')
    FROM jsonb_array_elements(of_groups) AS said
    LEFT JOIN @SCHEMA@.groups g ON g.name = said ->> 'name'
    LEFT JOIN LATERAL (
        SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c ON true
    ON CONFLICT DO NOTHING;
    RETURN began;
END $$;

-- Notes that runs go on, and ends those that have said nothing for an hour: their process was killed.
CREATE FUNCTION @SCHEMA@.keep_runs(going_on bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    now CONSTANT bigint := @SCHEMA@.now_micros();
BEGIN
    UPDATE @SCHEMA@.runs r SET seen = now WHERE r.id = ANY (going_on) AND NOT r.ended;
    PERFORM @SCHEMA@.end_run(r.id) FROM @SCHEMA@.runs r
    WHERE NOT r.ended AND r.seen < now - 3600000000;
END $$;

CREATE FUNCTION @SCHEMA@.end_run(of_run bigint) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE @SCHEMA@.runs SET ended = true, swept = NULL WHERE id = of_run;
    DELETE FROM @SCHEMA@.settled WHERE NOT @SCHEMA@.is_counted();
$$;

-- Counts what became of a run's events, each id by its worst; if they are given, of those alone that
-- retention removes, which are at places from `from_place` to below `to_place`.
-- They are those published during the run, by itself or by no run at all, and those that one of its
-- groups had not settled when it began. One that a group wants but has not settled is in no class.
CREATE FUNCTION @SCHEMA@.tally(
    of_run bigint, only_seqs bigint[], from_place bigint, to_place bigint
) RETURNS TABLE (
    published bigint, carried bigint, delivered bigint, succeeded bigint, failed bigint,
    dead bigint, unmatched bigint, retried bigint
) LANGUAGE sql STABLE SET jit = off AS $$
    WITH the AS MATERIALIZED (
        SELECT r.id, r.newest FROM @SCHEMA@.runs r WHERE r.id = of_run
    ), mine AS MATERIALIZED (
        SELECT rg.name, rg.types, rg.topics, rg.place AS began, rg.open AS carried, g.id, c.place,
            CASE WHEN only_seqs IS NULL THEN @SCHEMA@.open_places(g.id) ELSE '{}' END AS open
        FROM @SCHEMA@.run_groups rg LEFT JOIN @SCHEMA@.groups g ON g.name = rg.name
        LEFT JOIN LATERAL (
            SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
        ) AS c ON true
        WHERE rg.run = of_run
    ), least_place AS (
        SELECT least((SELECT newest FROM the), (SELECT min(m.began) FROM mine m),
            (SELECT min(lower(m.carried)) - 1 FROM mine m WHERE NOT isempty(m.carried))) AS place
    ), all_events AS MATERIALIZED (
        SELECT e.* FROM least_place CROSS JOIN LATERAL
            @SCHEMA@.events_behind(greatest(least_place.place, from_place - 1), to_place) AS e
        WHERE only_seqs IS NULL OR e.seq = ANY (only_seqs)
    ), outcomes AS MATERIALIZED (
        SELECT s.grp, p.place, max(s.outcome) AS outcome, bool_or(s.retried) AS retried
        FROM @SCHEMA@.settled s CROSS JOIN LATERAL unnest(s.places) AS span
        CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
        WHERE s.grp IN (SELECT m.id FROM mine m)
          AND s.highest >= from_place AND s.highest < to_place + 8192 GROUP BY s.grp, p.place
    ), held AS MATERIALIZED (
        SELECT d.grp, d.place, d.attempt, d.outcome, d.retried FROM @SCHEMA@.deliveries d
        WHERE d.open AND d.grp IN (SELECT m.id FROM mine m) AND only_seqs IS NULL
    ), leased AS MATERIALIZED (
        SELECT l.grp, range_agg(p) AS places FROM @SCHEMA@.leases l
        CROSS JOIN LATERAL unnest(l.places) AS p WHERE only_seqs IS NULL GROUP BY l.grp
    ), seen AS MATERIALIZED (
        SELECT e.id, e.place > the.newest AS is_new, e.rejected,
            o.outcome IS NOT NULL OR coalesce(h.attempt, 0) > 0 OR coalesce(h.outcome, 0) > 0
                OR coalesce(e.place <@ l.places, false) AS delivered,
            CASE WHEN m.id IS NULL OR e.rejected THEN false
                 WHEN e.place <@ m.open THEN true
                 ELSE e.place > m.place AND @SCHEMA@.wants(m.types, m.topics, e.type, e.topic)
            END AS open,
            greatest(coalesce(o.outcome, 0), coalesce(h.outcome, 0)) AS outcome,
            coalesce(o.retried, false) OR coalesce(h.retried, false) AS retried
        FROM the CROSS JOIN all_events e LEFT JOIN mine m ON true
        LEFT JOIN outcomes o ON o.grp = m.id AND o.place = e.place
        LEFT JOIN held h ON h.grp = m.id AND h.place = e.place
        LEFT JOIN leased l ON l.grp = m.id
        WHERE (e.place > the.newest AND (e.run = the.id OR e.run IS NULL))
           OR (e.place <= the.newest AND NOT e.rejected AND (e.place <@ m.carried
               OR (e.place > m.began AND @SCHEMA@.wants(m.types, m.topics, e.type, e.topic))))
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
CREATE FUNCTION @SCHEMA@.count_run(of_run bigint) RETURNS TABLE (
    published bigint, carried bigint, delivered bigint, succeeded bigint, failed bigint,
    dead bigint, unmatched bigint, retried bigint, swept text
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT t.*, (SELECT r.swept FROM @SCHEMA@.runs r WHERE r.id = of_run)
    FROM @SCHEMA@.tally(of_run, NULL, 0, 1::bigint << 62) AS t;
END $$;

-- Tells whether a group has an unsettled event that a program wants.
CREATE FUNCTION @SCHEMA@.is_busy(of_name text, of_types text[], of_topics text[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    the record;
    batch record;
BEGIN
    SELECT g.id, c.place INTO the FROM @SCHEMA@.groups g CROSS JOIN LATERAL (
        SELECT c.place FROM @SCHEMA@.cursors c WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1
    ) AS c WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM @SCHEMA@.deliveries d JOIN @SCHEMA@.events e ON e.seq = d.seq
            WHERE d.grp = the.id AND d.open
              AND @SCHEMA@.wants(of_types, of_topics, e.type, e.topic))
        OR EXISTS (SELECT FROM @SCHEMA@.leases l CROSS JOIN LATERAL unnest(l.places) AS span
            CROSS JOIN LATERAL generate_series(lower(span), upper(span) - 1) AS p (place)
            JOIN @SCHEMA@.events e ON e.seq = @SCHEMA@.seq_at(p.place)
            WHERE l.grp = the.id AND NOT l.again
              AND @SCHEMA@.wants(of_types, of_topics, e.type, e.topic)) THEN
        RETURN true;
    END IF;
    -- One batch after another, so that the first that is wanted is found at once.
    FOR batch IN
        SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
        WHERE l.place + l.n - 1 > the.place AND l.place >= coalesce((
            SELECT b.place FROM @SCHEMA@.log b
            WHERE b.place <= the.place + 1 ORDER BY b.place DESC LIMIT 1), 0)
        ORDER BY l.place
    LOOP
        IF EXISTS (SELECT FROM @SCHEMA@.events e
            WHERE e.seq >= batch.first + greatest(the.place + 1 - batch.place, 0)
              AND e.seq < batch.first + batch.n AND NOT e.rejected
              AND @SCHEMA@.wants(of_types, of_topics, e.type, e.topic)) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- As `is_busy`, for any of the groups `[{"name": .., "types": .., "topics": ..}]`, in one look.
CREATE FUNCTION @SCHEMA@.are_busy(of_groups jsonb) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM jsonb_array_elements(of_groups) AS said WHERE @SCHEMA@.is_busy(
        said ->> 'name', @SCHEMA@.list_of(said -> 'types'), @SCHEMA@.list_of(said -> 'topics')));
END $$;
