-- Takes back what was published under an id and is held back still; false if there was nothing.
--
-- Whoever takes such an event in, or hands it out, has locked it, or its delivery, until it commits:
-- so what this sees once it has both is what became of it. Groups that keep order are held first, as
-- a claim of theirs may be about to set something aside behind one of these.
CREATE FUNCTION @SCHEMA@.withdraw(of_id text) RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    held record;
    kept record;
    withdrawn boolean := false;
BEGIN
    -- Most often there is none, or it is too late: then nobody is held up.
    IF NOT EXISTS (SELECT FROM @SCHEMA@.events e
        WHERE e.id = of_id AND e.due IS NOT NULL AND e.due > @SCHEMA@.now_micros()) THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), k.id + 16) FROM (
        SELECT g.id FROM @SCHEMA@.groups g WHERE g.keyed AND EXISTS (SELECT FROM @SCHEMA@.events e
            WHERE e.id = of_id AND e.due IS NOT NULL AND e.key IS NOT NULL)
        ORDER BY g.id
    ) AS k;
    FOR held IN
        SELECT e.seq, e.due FROM @SCHEMA@.events e WHERE e.id = of_id AND e.due IS NOT NULL
        ORDER BY e.seq FOR UPDATE
    LOOP
        -- Who settles one that has become due meanwhile may wait for a group that is held here.
        CONTINUE WHEN held.due <= @SCHEMA@.now_micros();
        PERFORM FROM @SCHEMA@.deliveries d WHERE d.seq = held.seq ORDER BY d.grp FOR UPDATE;
        -- Looked at only now that nobody can have it any more who has it not.
        CONTINUE WHEN held.due <= @SCHEMA@.now_micros() OR EXISTS (
            SELECT FROM @SCHEMA@.deliveries d
            WHERE d.seq = held.seq AND (d.fence IS NOT NULL OR d.attempt > 0 OR NOT d.open));
        FOR kept IN
            DELETE FROM @SCHEMA@.deliveries d WHERE d.seq = held.seq RETURNING d.grp, d.key
        LOOP
            -- Nothing waits behind it, unless the server's clock was set back.
            CONTINUE WHEN kept.key IS NULL;
            PERFORM @SCHEMA@.free_keys(kept.grp, ARRAY[kept.key]);
        END LOOP;
        DELETE FROM @SCHEMA@.events e WHERE e.seq = held.seq;
        withdrawn := true;
    END LOOP;
    RETURN withdrawn;
END $$;
