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
