-- Ranks how a subscription got through.
CREATE FUNCTION @SCHEMA@.rank_of(how jsonb) RETURNS smallint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN how = '"unmatched"' THEN 1 WHEN how = '"done"' THEN 2
        WHEN how ? 'failed' THEN 3 ELSE 4 END::smallint
$$;

-- Hands dead letters back, each to the one subscription it failed in; returns how many.
CREATE FUNCTION @SCHEMA@.redrive(ids bigint[]) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    letter record;
    others jsonb;
    redriven bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), k.grp + 16) FROM (
        SELECT DISTINCT l.grp FROM @SCHEMA@.letters l
        WHERE l.id = ANY (ids) AND l.grp IS NOT NULL ORDER BY l.grp
    ) AS k;
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
        PERFORM @SCHEMA@.come_back(letter.grp, letter.place);
        UPDATE @SCHEMA@.deliveries d SET open = true, fence = NULL, due = (
                SELECT c.since FROM @SCHEMA@.cursors c
                WHERE c.grp = letter.grp ORDER BY c.turn DESC LIMIT 1),
            attempt = 0, begun = false, lost = false, outcome = coalesce((
                SELECT max(@SCHEMA@.rank_of(o.value)) FROM jsonb_each(others) AS o), 0),
            finished = CASE WHEN others <> '{}' THEN others::text END, history = NULL,
            -- Tries of a run that has ended are none of the next one's.
            retried = d.retried AND EXISTS (SELECT FROM @SCHEMA@.runs r WHERE NOT r.ended)
        WHERE d.grp = letter.grp AND d.place = letter.place;
        UPDATE @SCHEMA@.settled s
        SET places = s.places - int8range(letter.place, letter.place, '[]')::int8multirange
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
