-- Tells whether a run counts what becomes of events.
CREATE FUNCTION @SCHEMA@.is_counted() RETURNS boolean LANGUAGE plpgsql VOLATILE AS
$$ BEGIN RETURN EXISTS (SELECT FROM @SCHEMA@.runs r WHERE NOT r.ended); END $$;

-- Takes places out of the leases of a fence that a group still has; returns those that were there.
CREATE FUNCTION @SCHEMA@.release(of_group integer, of_fence bigint, span int8multirange)
RETURNS TABLE (places int8multirange, again boolean)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    held record;
BEGIN
    FOR held IN
        SELECT l.ctid, l.places, l.again FROM @SCHEMA@.leases l
        WHERE l.fence = of_fence AND l.grp = of_group AND l.places && span FOR UPDATE
    LOOP
        IF held.places <@ span THEN
            DELETE FROM @SCHEMA@.leases l WHERE l.ctid = held.ctid;
        ELSE
            UPDATE @SCHEMA@.leases l SET places = held.places - span WHERE l.ctid = held.ctid;
        END IF;
        RETURN QUERY SELECT held.places * span, held.again;
    END LOOP;
END $$;

-- Closes deliveries of their own, one by one, each looked up by its place: joined, all that a group has
-- might be read, few as it is, and with it all that it had while the server can't clean up. Those with
-- dead letters stay, to be handed back from there.
CREATE FUNCTION @SCHEMA@.close(
    of_group integer, closed int8multirange, with_outcome smallint, with_retried boolean,
    counted boolean
) RETURNS void LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    one record;
    ended @SCHEMA@.settled[];
    keys text[];
BEGIN
    FOR one IN
        SELECT d.place, d.key, greatest(d.outcome, with_outcome) AS outcome,
            d.retried OR with_retried OR d.attempt > 1 AS retried,
            EXISTS (SELECT FROM @SCHEMA@.letters l WHERE l.seq = d.seq AND l.grp = of_group) AS stays
        FROM unnest(closed) AS span CROSS JOIN LATERAL (
            SELECT * FROM @SCHEMA@.deliveries d
            WHERE d.grp = of_group AND d.place >= lower(span) AND d.place < upper(span) OFFSET 0
        ) AS d
    LOOP
        IF one.stays THEN
            UPDATE @SCHEMA@.deliveries d SET open = false, fence = NULL, outcome = one.outcome,
                retried = one.retried WHERE d.grp = of_group AND d.place = one.place;
        ELSE
            DELETE FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.place = one.place;
        END IF;
        IF one.key IS NOT NULL THEN
            keys := keys || one.key;
        END IF;
        IF counted THEN
            ended := ended || ROW(of_group, int8multirange(int8range(one.place, one.place, '[]')),
                one.outcome, one.retried, one.place)::@SCHEMA@.settled;
        END IF;
    END LOOP;
    INSERT INTO @SCHEMA@.settled (grp, places, outcome, retried, highest)
    SELECT of_group, range_agg(span), e.outcome, e.retried, max(e.highest)
    FROM unnest(ended) AS e CROSS JOIN LATERAL unnest(e.places) AS span
    GROUP BY e.outcome, e.retried, e.highest >> 12;
    IF keys IS NOT NULL THEN
        -- After a claim that has just set something aside for one of them.
        PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), of_group + 16);
        PERFORM @SCHEMA@.free_keys(of_group, keys);
    END IF;
END $$;

-- Settles places with nothing to be told but the outcome. Returns, for each of the lists, the
-- places that were held still.
CREATE FUNCTION @SCHEMA@.settle(
    of_group integer, fences bigint[], spans text[], outcomes smallint[], retried boolean[]
) RETURNS SETOF text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    counted boolean;
    part record;
    kept int8multirange;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(@SCHEMA@.lock_class(), 1);
    counted := @SCHEMA@.is_counted();
    FOR nth IN 1 .. cardinality(fences) LOOP
        kept := '{}';
        FOR part IN SELECT * FROM @SCHEMA@.release(of_group, fences[nth], spans[nth]::int8multirange)
        LOOP
            kept := kept + part.places;
            IF part.again THEN
                PERFORM @SCHEMA@.close(of_group, part.places, outcomes[nth], retried[nth], counted);
            ELSIF counted THEN
                INSERT INTO @SCHEMA@.settled (grp, places, outcome, retried, highest)
                VALUES (of_group, part.places, outcomes[nth], retried[nth], upper(part.places) - 1);
            END IF;
        END LOOP;
        RETURN NEXT kept::text;
    END LOOP;
END $$;

-- Lets leases begin anew. Returns, for each of the lists, the places that were held still.
CREATE FUNCTION @SCHEMA@.extend(of_group integer, fences bigint[], spans text[], lease bigint)
RETURNS SETOF text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    part record;
    kept int8multirange;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Whoever turns a group to the order of keys waits for this.
    PERFORM pg_advisory_xact_lock_shared(@SCHEMA@.lock_class(), 1);
    FOR nth IN 1 .. cardinality(fences) LOOP
        kept := '{}';
        FOR part IN SELECT r.again, range_agg(s) AS places
            FROM @SCHEMA@.release(of_group, fences[nth], spans[nth]::int8multirange) AS r
            CROSS JOIN LATERAL unnest(r.places) AS s GROUP BY r.again
        LOOP
            kept := kept + part.places;
            INSERT INTO @SCHEMA@.leases (fence, grp, until, again, places)
            VALUES (fences[nth], of_group, @SCHEMA@.now_micros() + lease, part.again, part.places);
        END LOOP;
        RETURN NEXT kept::text;
    END LOOP;
END $$;

-- Locks leases of single places, and tells what is kept of each that is held still; looks each up, as
-- `close` does. A run that begins meanwhile waits until they are resolved, as for `settle`.
CREATE FUNCTION @SCHEMA@.hold(of_group integer, fences bigint[], at_places bigint[])
RETURNS TABLE (nth bigint, seq bigint, attempt integer, outcome smallint, retried boolean,
    finished text, history text)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM pg_advisory_xact_lock_shared(@SCHEMA@.lock_class(), 1);
    RETURN QUERY WITH held AS MATERIALIZED (
        SELECT w.nth, w.place FROM unnest(fences, at_places) WITH ORDINALITY AS w (fence, place, nth)
        CROSS JOIN LATERAL (
            SELECT FROM @SCHEMA@.leases l
            WHERE l.fence = w.fence AND l.grp = of_group AND l.places @> w.place OFFSET 0 FOR UPDATE
        ) AS l
    )
    SELECT h.nth, coalesce(d.seq, @SCHEMA@.seq_at(h.place)),
        coalesce(d.attempt, 1), coalesce(d.outcome, 0::smallint), coalesce(d.retried, false),
        d.finished, d.history
    FROM held h LEFT JOIN LATERAL (
        SELECT * FROM @SCHEMA@.deliveries d WHERE d.grp = of_group AND d.place = h.place OFFSET 0
    ) AS d ON true;
END $$;

-- Settles one place that is held, with all there is to tell: `what` is 0 to close it, 1 to have it
-- again after `delay`, below 0 before all others, 2 to go on with it. One to have again is due from
-- where claims look: none goes on until it is written, as for keys that are freed.
CREATE FUNCTION @SCHEMA@.resolve(
    of_group integer, of_fence bigint, at_place bigint, of_seq bigint, what integer, delay bigint,
    lease bigint, attempts integer, worst smallint, was_retried boolean, ends text, tries text
) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    now bigint;
    span CONSTANT int8multirange := int8multirange(int8range(at_place, at_place, '[]'));
BEGIN
    IF what = 1 AND (SELECT g.keyed FROM @SCHEMA@.groups g WHERE g.id = of_group) THEN
        -- As whoever closes one, perhaps in this transaction.
        PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), of_group + 16);
    ELSIF what = 1 THEN
        PERFORM pg_advisory_xact_lock_shared(@SCHEMA@.lock_class(), of_group + 16);
    END IF;
    now := @SCHEMA@.now_micros();
    PERFORM FROM @SCHEMA@.release(of_group, of_fence, span);
    INSERT INTO @SCHEMA@.deliveries AS d
        (grp, place, seq, fence, due, attempt, outcome, retried, finished, history)
    VALUES (of_group, at_place, of_seq, CASE WHEN what = 2 THEN of_fence END,
        CASE WHEN delay >= 0 THEN now + delay ELSE (SELECT c.since FROM @SCHEMA@.cursors c
            WHERE c.grp = of_group ORDER BY c.turn DESC LIMIT 1) END,
        attempts, worst, was_retried OR attempts > 1, ends, tries)
    ON CONFLICT (grp, place) DO UPDATE SET fence = excluded.fence, due = excluded.due,
        attempt = excluded.attempt, outcome = excluded.outcome,
        retried = d.retried OR excluded.retried, finished = excluded.finished,
        history = excluded.history;
    IF what = 0 THEN
        PERFORM @SCHEMA@.close(of_group, span, worst, was_retried, @SCHEMA@.is_counted());
    ELSIF what = 2 THEN
        INSERT INTO @SCHEMA@.leases (fence, grp, until, again, places)
        VALUES (of_fence, of_group, now + lease, true, span);
    END IF;
END $$;
