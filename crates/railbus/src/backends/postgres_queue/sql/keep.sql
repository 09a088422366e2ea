-- Returns the place right before a start: 0 the oldest, 1 the newest, 2 a time.
CREATE FUNCTION @SCHEMA@.before(what integer, at_time bigint, newest bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE what WHEN 0 THEN 0 WHEN 1 THEN newest ELSE coalesce((
        SELECT l.place - 1 FROM @SCHEMA@.log l WHERE l.at >= at_time ORDER BY l.place LIMIT 1
    ), newest) END
$$;

-- Returns the newest place, as `tick` left it, which comes first: in a transaction of its own, so that
-- nobody waits for whoever looks through the log then.
CREATE FUNCTION @SCHEMA@.newest() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT l.place + l.n - 1 FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1), 0)
$$;

-- Opens a group that wants no less than this. Nothing if its interest was not what it was thought
-- to be: look again.
CREATE FUNCTION @SCHEMA@.open_group(
    of_name text, thought text, wanted text, of_types text[], of_topics text[], by_key boolean,
    what integer, at_time bigint
) RETURNS TABLE (id integer, keyed boolean) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    newest CONSTANT bigint := @SCHEMA@.newest();
    now CONSTANT bigint := @SCHEMA@.now_micros();
    opened integer;
BEGIN
    IF by_key AND thought IS NOT NULL THEN
        SELECT g.id INTO opened FROM @SCHEMA@.groups g WHERE g.name = of_name AND NOT g.keyed;
        IF FOUND THEN
            -- Before its row, as all have it.
            PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), 1);
            PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), opened + 16);
            opened := NULL;
        END IF;
    END IF;
    IF thought IS NULL THEN
        INSERT INTO @SCHEMA@.groups (name, interest, types, topics, keyed, seen)
        VALUES (of_name, wanted, of_types, of_topics, by_key, now)
        ON CONFLICT (name) DO NOTHING RETURNING id INTO opened;
        INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at)
        SELECT opened, 0, @SCHEMA@.before(what, at_time, newest), 0, now WHERE opened IS NOT NULL;
    ELSIF thought = wanted THEN
        SELECT g.id INTO opened FROM @SCHEMA@.groups g
        WHERE g.name = of_name AND g.interest = thought;
    ELSE
        UPDATE @SCHEMA@.groups g SET interest = wanted, types = of_types, topics = of_topics,
            seen = now
        WHERE g.name = of_name AND g.interest = thought RETURNING g.id INTO opened;
    END IF;
    IF by_key AND EXISTS (SELECT FROM @SCHEMA@.groups g WHERE g.id = opened AND NOT g.keyed) THEN
        PERFORM @SCHEMA@.keep_order(opened);
    END IF;
    RETURN QUERY SELECT g.id, g.keyed FROM @SCHEMA@.groups g WHERE g.id = opened;
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

CREATE FUNCTION @SCHEMA@.list_groups() RETURNS TABLE (
    name text, interest text, seen bigint, lag bigint, leased bigint, letters bigint
) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET jit = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT g.name, g.interest, greatest(g.seen, c.at),
        (SELECT count(*) FROM @SCHEMA@.deliveries d WHERE d.grp = g.id AND d.open)
        + coalesce((SELECT sum(upper(p) - lower(p)) FROM @SCHEMA@.leases l
            CROSS JOIN LATERAL unnest(l.places) AS p WHERE l.grp = g.id AND NOT l.again), 0)::bigint
        + (SELECT count(*) FROM @SCHEMA@.events_behind(c.place) AS e
            WHERE NOT e.rejected AND @SCHEMA@.wants(g.types, g.topics, e.type, e.topic)
              AND (c.place >= c.furthest OR NOT e.place <@ g.passed)),
        coalesce((SELECT sum(upper(p) - lower(p)) FROM @SCHEMA@.leases l
            CROSS JOIN LATERAL unnest(l.places) AS p
            WHERE l.grp = g.id AND l.until > @SCHEMA@.now_micros()), 0)::bigint,
        (SELECT count(*) FROM @SCHEMA@.letters l WHERE l.grp = g.id)
    FROM @SCHEMA@.groups g CROSS JOIN LATERAL (
        SELECT c.place, c.furthest, c.at FROM @SCHEMA@.cursors c
        WHERE c.grp = g.id ORDER BY c.turn DESC LIMIT 1) AS c
    ORDER BY g.name COLLATE "C";
END $$;

-- Forgets a group; false if there is none of that name.
CREATE FUNCTION @SCHEMA@.prune(of_name text) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone integer;
BEGIN
    SELECT g.id INTO gone FROM @SCHEMA@.groups g WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- After all that settle now, and may write a dead letter.
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), 1);
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), gone + 16);
    DELETE FROM @SCHEMA@.letters WHERE grp = gone;
    DELETE FROM @SCHEMA@.leases WHERE grp = gone;
    DELETE FROM @SCHEMA@.deliveries WHERE grp = gone;
    DELETE FROM @SCHEMA@.cursors WHERE grp = gone;
    DELETE FROM @SCHEMA@.marks WHERE grp = gone;
    DELETE FROM @SCHEMA@.settled WHERE grp = gone;
    DELETE FROM @SCHEMA@.groups WHERE id = gone;
    RETURN true;
END $$;

-- Lets a group see again what it has settled since a start; what it has not settled stays as it
-- is. Returns how many; nothing if there is no such group.
CREATE FUNCTION @SCHEMA@.replay(of_name text, what integer, at_time bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off AS $$
DECLARE
    behind CONSTANT bigint := @SCHEMA@.before(what, at_time, @SCHEMA@.newest());
    span CONSTANT int8multirange := int8multirange(int8range(behind + 1, NULL));
    the record;
    at record;
    reopened bigint;
    again bigint;
    unsettled int8multirange;
BEGIN
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), g.id + 16)
    FROM @SCHEMA@.groups g WHERE g.name = of_name;
    SELECT g.id, g.types, g.topics, g.passed INTO the FROM @SCHEMA@.groups g WHERE g.name = of_name;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT c.turn, c.place, c.furthest INTO at
    FROM @SCHEMA@.cursors c WHERE c.grp = the.id ORDER BY c.turn DESC LIMIT 1;
    UPDATE @SCHEMA@.deliveries d SET open = true, fence = NULL, due = 0, attempt = 0, begun = false,
        lost = false, outcome = 0, retried = false, finished = NULL, history = NULL
    WHERE d.grp = the.id AND d.place > behind AND NOT d.open;
    GET DIAGNOSTICS reopened = ROW_COUNT;
    -- With what was reopened just now: it has a delivery, and needs no other.
    unsettled := @SCHEMA@.open_places(the.id);
    SELECT count(*) INTO again FROM @SCHEMA@.events_behind(behind) AS e
    WHERE (e.place <= at.place OR (e.place <= at.furthest AND e.place <@ the.passed)) AND NOT e.rejected
      AND @SCHEMA@.wants(the.types, the.topics, e.type, e.topic) AND NOT e.place <@ unsettled;
    -- Of an earlier replay that is not over, what does not begin anew.
    UPDATE @SCHEMA@.groups g SET passed = unsettled + CASE WHEN at.place < at.furthest
        THEN the.passed - span ELSE '{}' END WHERE g.id = the.id;
    -- By the marks there are it would be settled: none of it goes until there are new ones.
    DELETE FROM @SCHEMA@.marks m WHERE m.grp = the.id;
    UPDATE @SCHEMA@.settled s SET places = s.places - span
    WHERE s.grp = the.id AND s.highest > behind AND s.places && span;
    DELETE FROM @SCHEMA@.cursors c WHERE c.grp = the.id AND c.turn = at.turn;
    INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at)
    VALUES (the.id, at.turn + 1, least(at.place, behind), greatest(at.place, at.furthest),
        @SCHEMA@.now_micros());
    RETURN reopened + again;
END $$;

-- Ranks how a subscription got through.
CREATE FUNCTION @SCHEMA@.rank_of(how jsonb) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN how = '"unmatched"' THEN 1 WHEN how = '"done"' THEN 2
        WHEN how ? 'failed' THEN 3 ELSE 4 END::smallint
$$;

-- Hands dead letters back, each to the one subscription it failed in; returns how many.
CREATE FUNCTION @SCHEMA@.redrive(ids bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
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
        JOIN @SCHEMA@.letters l ON l.id = wanted.id
        JOIN @SCHEMA@.deliveries d ON d.grp = l.grp AND d.place = l.place
        ORDER BY wanted.nth FOR UPDATE OF l
    LOOP
        -- Read anew: a letter before may have been of the same event.
        SELECT coalesce(d.finished, '{}')::jsonb - letter.subscription INTO others
        FROM @SCHEMA@.deliveries d WHERE d.grp = letter.grp AND d.place = letter.place
            AND (NOT d.open OR (d.fence IS NULL AND d.attempt = 0)) FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        UPDATE @SCHEMA@.deliveries d SET open = true, fence = NULL, due = 0, attempt = 0, begun = false,
            lost = false, outcome = coalesce((SELECT max(@SCHEMA@.rank_of(o.value)) FROM jsonb_each(others) AS o), 0),
            finished = CASE WHEN others <> '{}' THEN others::text END, history = NULL
        WHERE d.grp = letter.grp AND d.place = letter.place;
        UPDATE @SCHEMA@.settled s SET places = s.places - int8range(letter.place, letter.place, '[]')::int8multirange
        WHERE s.grp = letter.grp AND s.highest >= letter.place AND s.highest < letter.place + 8192
          AND s.places @> letter.place;
        DELETE FROM @SCHEMA@.letters l WHERE l.id = letter.id;
        redriven := redriven + 1;
    END LOOP;
    RETURN redriven;
END $$;

-- Deletes dead letters, with what is kept for them alone; returns how many there were.
CREATE FUNCTION @SCHEMA@.purge(ids bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seqs bigint[];
    purged bigint;
BEGIN
    WITH gone AS (
        DELETE FROM @SCHEMA@.letters l WHERE l.id = ANY (ids) RETURNING l.seq
    )
    SELECT count(*), array_agg(g.seq) INTO purged, seqs FROM gone g;
    DELETE FROM @SCHEMA@.deliveries d WHERE d.seq = ANY (seqs) AND NOT d.open
        AND NOT EXISTS (SELECT FROM @SCHEMA@.letters l WHERE l.seq = d.seq AND l.grp = d.grp);
    RETURN purged;
END $$;
