-- Claims a mark for so long: -1 if it is the holder's now, 0 if it is done, else for how long it is
-- another's.
CREATE FUNCTION @SCHEMA@.claim_mark(of_space text, of_key text, by text, lease bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    t bigint;
    held record;
BEGIN
    LOOP
        t := @SCHEMA@.now_micros();
        INSERT INTO @SCHEMA@.common_marks AS m (space, key, holder, until)
            VALUES (of_space, of_key, by, t + lease)
            ON CONFLICT (space, key) DO UPDATE SET holder = excluded.holder, until = excluded.until
            WHERE m.until <= t OR m.holder = by;
        EXIT WHEN FOUND;
        SELECT m.holder, m.until INTO held FROM @SCHEMA@.common_marks m
            WHERE m.space = of_space AND m.key = of_key;
        -- Or else it was released meanwhile.
        IF FOUND AND held.until > t THEN
            RETURN CASE WHEN held.holder IS NULL THEN 0 ELSE held.until - t END;
        END IF;
    END LOOP;
    -- Rarely, and then many: a look from the beginning goes through what is dead there.
    IF random() < 0.01 THEN
        DELETE FROM @SCHEMA@.common_marks m WHERE (m.space, m.key) IN (
            SELECT o.space, o.key FROM @SCHEMA@.common_marks o WHERE o.until <= t
            ORDER BY o.until LIMIT 1000 FOR UPDATE SKIP LOCKED);
    END IF;
    RETURN -1;
END $$;
-- Marks it as done for so long, unless another holder has it; tells whether it is done.
CREATE FUNCTION @SCHEMA@.commit_mark(of_space text, of_key text, by text, span bigint)
RETURNS boolean LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    t bigint := @SCHEMA@.now_micros();
BEGIN
    INSERT INTO @SCHEMA@.common_marks AS m (space, key, holder, until)
        VALUES (of_space, of_key, NULL, t + span)
        ON CONFLICT (space, key) DO UPDATE SET holder = NULL, until = excluded.until
        WHERE m.until <= t OR m.holder = by;
    RETURN FOUND OR EXISTS (SELECT FROM @SCHEMA@.common_marks m
        WHERE m.space = of_space AND m.key = of_key AND m.holder IS NULL AND m.until > t);
END $$;
-- Takes tokens out of a bucket: how many, or less than 0, for how long there are none.
CREATE FUNCTION @SCHEMA@.draw_tokens(
    of_name text, rate double precision, burst bigint, want bigint, back bigint, came bigint,
    ago bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off AS $$
DECLARE
    t bigint;
    bucket record;
    since double precision;
    passed double precision;
    v double precision;
    n bigint := 0;
BEGIN
    INSERT INTO @SCHEMA@.common_buckets (name, level, at)
        VALUES (of_name, burst, @SCHEMA@.now_micros()) ON CONFLICT (name) DO NOTHING;
    SELECT b.level, b.at INTO STRICT bucket FROM @SCHEMA@.common_buckets b
        WHERE b.name = of_name FOR UPDATE;
    -- The time since another one let go of it.
    t := @SCHEMA@.now_micros();
    passed := greatest(t - bucket.at, 0) / 1e6;
    since := least(ago / 1e6, passed);
    v := least(bucket.level + rate * (passed - since), burst) + back;
    v := least(v, greatest(burst - came, 0));
    v := least(v + rate * since, burst);
    IF v >= 1 THEN
        n := least(floor(v), greatest(want, 1));
        v := v - n;
    END IF;
    UPDATE @SCHEMA@.common_buckets b SET level = v, at = t WHERE b.name = of_name;
    IF n > 0 THEN
        RETURN n;
    END IF;
    RETURN -least(greatest(ceil((1 - v) / rate * 1e6), 1), 9e15)::bigint;
END $$;
