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
    SELECT c.turn, c.place, c.furthest, c.low, c.since INTO at
    FROM @SCHEMA@.cursors c WHERE c.grp = the.id ORDER BY c.turn DESC LIMIT 1;
    UPDATE @SCHEMA@.deliveries d SET open = true, fence = NULL, due = at.since, attempt = 0,
        begun = false, lost = false, outcome = 0, retried = false, finished = NULL, history = NULL
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
    INSERT INTO @SCHEMA@.cursors (grp, turn, place, furthest, at, low, since)
    VALUES (the.id, at.turn + 1, least(at.place, behind), greatest(at.place, at.furthest),
        @SCHEMA@.now_micros(), least(at.low, behind + 1), at.since);
    RETURN reopened + again;
END $$;
