-- Returns the row of a graph. Whoever refers to it shares lock 4 from before this on, so that it is
-- not removed meanwhile; lock 5 lets one at a time add graphs.
CREATE FUNCTION @SCHEMA@.keep_shape(of_version text, of_body text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off AS $$
DECLARE
    found bigint;
BEGIN
    FOR turn IN 1 .. 2 LOOP
        SELECT s.id INTO found FROM @SCHEMA@.shapes s
        WHERE hashtextextended(s.body, 0) = hashtextextended(of_body, 0)
          AND s.body = of_body AND s.version = of_version LIMIT 1;
        IF found IS NOT NULL THEN
            RETURN found;
        END IF;
        IF turn = 1 THEN
            PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), 5);
        END IF;
    END LOOP;
    INSERT INTO @SCHEMA@.shapes (version, body) VALUES (of_version, of_body) RETURNING id INTO found;
    RETURN found;
END $$;

-- Ends a run.
CREATE FUNCTION @SCHEMA@.close_journaled(of_number bigint, how text, why text) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE @SCHEMA@.journal SET state = how, error = why, ended_at = @SCHEMA@.now_micros(),
        touched = @SCHEMA@.now_micros()
    WHERE number = of_number
$$;

-- Begins a run or takes one over, for one caller of all that ask. It is `new` or `taken`, and the
-- caller's under `fence`; else someone's who holds it (`held`), `over`, or one of an `other` graph or
-- pipeline.
CREATE FUNCTION @SCHEMA@.begin_journaled(
    of_id text, of_pipeline text, of_version text, of_body text, of_input text, of_owner text,
    lease bigint, OUT came text, OUT fence bigint
) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    the record;
    graph bigint;
    made bigint;
BEGIN
    LOOP
        SELECT j.number, j.pipeline, j.until, j.state INTO the
        FROM @SCHEMA@.journal j WHERE j.id = of_id;
        IF NOT FOUND THEN
            PERFORM pg_advisory_xact_lock_shared(@SCHEMA@.lock_class(), 4);
            graph := @SCHEMA@.keep_shape(of_version, of_body);
            INSERT INTO @SCHEMA@.journal (id, pipeline, shape, owner, until, touched, began_at)
            SELECT of_id, of_pipeline, graph, of_owner, n.now + lease, n.now, n.now
            FROM (SELECT @SCHEMA@.now_micros() AS now) AS n
            ON CONFLICT (id) DO NOTHING RETURNING number INTO made;
            -- Else another was faster.
            CONTINUE WHEN made IS NULL;
            INSERT INTO @SCHEMA@.journal_inputs (run, input) VALUES (made, of_input);
            came := 'new';
            fence := 1;
            RETURN;
        END IF;
        -- Whoever can't have it locks nothing.
        IF the.pipeline <> of_pipeline THEN
            came := 'other';
        ELSIF the.state IS NOT NULL THEN
            came := 'over';
        ELSIF the.until > @SCHEMA@.now_micros() THEN
            came := 'held';
        ELSE
            SELECT j.number, j.shape, j.fence, j.until, j.cancel, j.state INTO the
            FROM @SCHEMA@.journal j WHERE j.number = the.number FOR NO KEY UPDATE;
            CONTINUE WHEN NOT FOUND OR the.state IS NOT NULL OR the.until > @SCHEMA@.now_micros();
            IF the.cancel THEN
                PERFORM @SCHEMA@.close_journaled(the.number, 'cancelled', NULL);
                came := 'over';
            ELSIF NOT EXISTS (SELECT FROM @SCHEMA@.shapes s
                    WHERE s.id = the.shape AND s.body = of_body) THEN
                came := 'other';
            ELSE
                fence := the.fence + 1;
                UPDATE @SCHEMA@.journal j SET owner = of_owner, fence = the.fence + 1,
                    until = n.now + lease, touched = n.now
                FROM (SELECT @SCHEMA@.now_micros() AS now) AS n WHERE j.number = the.number;
                came := 'taken';
            END IF;
        END IF;
        RETURN;
    END LOOP;
END $$;

-- Records in runs, and ends and renews them: for each of `ids`, held under its fence, the next so
-- many of the records, and an end if there is one. What comes of each is a row, in their order: `fine`
-- with whether its end was asked for, `gone`, `lost` to whom, `ended` how, or which of its records has
-- another outcome already, the `twice`. Callers sort `ids`, so that no two wait for each other.
CREATE FUNCTION @SCHEMA@.record_journaled(
    ids text[], fences bigint[], leases bigint[], counts integer[], ends text[], errors text[],
    paths text[], visits bigint[], bodies text[]
) RETURNS TABLE (came text, told text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    the record;
    past integer := 0;
    clash bigint;
    added bigint;
    now bigint;
BEGIN
    IF cardinality(paths) = 0 AND array_remove(ends, NULL) = '{}' THEN
        -- What a crash forgets of a lease, it would have forgotten of the run anyway.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    FOR i IN 1 .. cardinality(ids) LOOP
        SELECT j.number, j.owner, j.fence, j.records, j.cancel, j.state INTO the
        FROM @SCHEMA@.journal j WHERE j.id = ids[i] FOR NO KEY UPDATE;
        now := @SCHEMA@.now_micros();
        came := 'fine';
        told := NULL;
        IF NOT FOUND THEN
            came := 'gone';
        ELSIF the.fence <> fences[i] THEN
            came := 'lost';
            told := the.owner;
        ELSIF the.state IS NOT NULL THEN
            IF the.state IS DISTINCT FROM ends[i] THEN
                came := 'ended';
                told := the.state;
            END IF;
        ELSIF ends[i] IS NOT NULL THEN
            PERFORM @SCHEMA@.close_journaled(the.number, ends[i], errors[i]);
        ELSIF counts[i] = 0 THEN
            UPDATE @SCHEMA@.journal SET until = now + leases[i] WHERE number = the.number;
            told := CASE WHEN the.cancel THEN 'cancel' END;
        ELSE
            SELECT min(s.nth) INTO clash
            FROM unnest(paths[past + 1 : past + counts[i]], visits[past + 1 : past + counts[i]],
                bodies[past + 1 : past + counts[i]]) WITH ORDINALITY AS s (path, visit, body, nth)
            WHERE EXISTS (SELECT FROM @SCHEMA@.journal_records r
                WHERE r.run = the.number AND r.path = s.path AND r.visit = s.visit
                  AND hashtextextended(r.path, 0) = hashtextextended(s.path, 0)
                  AND r.body <> s.body);
            IF clash IS NOT NULL THEN
                came := 'twice';
                told := clash;
            ELSE
                INSERT INTO @SCHEMA@.journal_records (run, number, path, visit, at, body)
                SELECT the.number, the.records + row_number() OVER (ORDER BY s.nth),
                    s.path, s.visit, now, s.body
                FROM unnest(paths[past + 1 : past + counts[i]], visits[past + 1 : past + counts[i]],
                    bodies[past + 1 : past + counts[i]]) WITH ORDINALITY AS s (path, visit, body, nth)
                WHERE NOT EXISTS (SELECT FROM @SCHEMA@.journal_records r
                    WHERE r.run = the.number AND r.path = s.path AND r.visit = s.visit
                      AND hashtextextended(r.path, 0) = hashtextextended(s.path, 0));
                GET DIAGNOSTICS added = ROW_COUNT;
                UPDATE @SCHEMA@.journal SET until = now + leases[i], touched = now,
                    records = the.records + added
                WHERE number = the.number;
                told := CASE WHEN the.cancel THEN 'cancel' END;
            END IF;
        END IF;
        past := past + counts[i];
        RETURN NEXT;
    END LOOP;
END $$;

-- Gives a lease back, if it still is one.
CREATE FUNCTION @SCHEMA@.release_journaled(of_id text, of_fence bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE @SCHEMA@.journal j SET until = @SCHEMA@.now_micros()
    WHERE j.id = of_id AND j.fence = of_fence AND j.state IS NULL
      AND j.until > @SCHEMA@.now_micros();
END $$;

-- Asks for the end of a run, or ends it if nobody runs it; returns how it stood, nothing if it is
-- not there. Whoever runs it is told on `channel`, if there is one.
CREATE FUNCTION @SCHEMA@.cancel_journaled(of_id text, channel text) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    the record;
BEGIN
    SELECT j.number, j.until, j.state INTO the
    FROM @SCHEMA@.journal j WHERE j.id = of_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF the.state IS NOT NULL THEN
        RETURN the.state;
    END IF;
    UPDATE @SCHEMA@.journal SET cancel = true WHERE number = the.number;
    IF the.until <= @SCHEMA@.now_micros() THEN
        PERFORM @SCHEMA@.close_journaled(the.number, 'cancelled', NULL);
        RETURN 'left';
    END IF;
    IF channel IS NOT NULL THEN
        PERFORM pg_notify(channel, of_id);
    END IF;
    RETURN 'running';
END $$;

-- Deletes runs that are as they were found, that nobody holds, and in which nothing has happened for
-- `older`; returns how many. Those that someone is at stay.
CREATE FUNCTION @SCHEMA@.discard_journaled(numbers bigint[], states text[], older bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    WITH doomed AS MATERIALIZED (
        SELECT j.number FROM unnest(numbers, states) AS seen (number, state)
        JOIN @SCHEMA@.journal j ON j.number = seen.number
        WHERE j.state IS NOT DISTINCT FROM seen.state
          AND j.touched <= @SCHEMA@.now_micros() - older
          AND (j.state IS NOT NULL OR j.until <= @SCHEMA@.now_micros())
        FOR UPDATE OF j SKIP LOCKED
    ), dead AS (
        DELETE FROM @SCHEMA@.journal j USING doomed d WHERE j.number = d.number RETURNING j.number
    ), inputs AS (
        DELETE FROM @SCHEMA@.journal_inputs i USING doomed d WHERE i.run = d.number
    )
    INSERT INTO @SCHEMA@.journal_trash (run) SELECT d.number FROM dead d ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

-- Deletes up to 100 runs that ended longer ago than that; returns how many.
CREATE FUNCTION @SCHEMA@.sweep_journal(older bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    numbers bigint[];
    states text[];
BEGIN
    SELECT array_agg(j.number), array_agg(j.state) INTO numbers, states FROM (
        SELECT j.number, j.state FROM @SCHEMA@.journal j
        WHERE j.ended_at <= @SCHEMA@.now_micros() - older ORDER BY j.ended_at LIMIT 100
    ) AS j;
    RETURN coalesce(@SCHEMA@.discard_journaled(numbers, states, older), 0);
END $$;

-- Deletes some of the records of runs that are gone, or, if there are none, the graphs that no run has;
-- tells whether there may be more.
CREATE FUNCTION @SCHEMA@.empty_journal() RETURNS boolean
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off AS $$
DECLARE
    of_run bigint;
    gone bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT t.run INTO of_run FROM @SCHEMA@.journal_trash t LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        -- Else a run begins: next time.
        IF pg_try_advisory_xact_lock(@SCHEMA@.lock_class(), 4) THEN
            DELETE FROM @SCHEMA@.shapes s
            WHERE NOT EXISTS (SELECT FROM @SCHEMA@.journal j WHERE j.shape = s.id);
        END IF;
        RETURN false;
    END IF;
    DELETE FROM @SCHEMA@.journal_records r WHERE r.run = of_run AND r.number IN (
        SELECT n.number FROM @SCHEMA@.journal_records n WHERE n.run = of_run
        ORDER BY n.number LIMIT 1000);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone < 1000 THEN
        DELETE FROM @SCHEMA@.journal_trash t WHERE t.run = of_run;
    END IF;
    RETURN true;
END $$;
