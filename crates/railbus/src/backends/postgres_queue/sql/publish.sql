-- The class of this schema's advisory locks: 0 for the log, 1 for runs, 2 and 3 for retention, 4 and
-- 5 for graphs, groups from 16 on, inputs below 0.
CREATE FUNCTION @SCHEMA@.lock_class() RETURNS integer LANGUAGE sql STABLE AS
$$ SELECT '@SCHEMA@'::regnamespace::oid::integer $$;

-- The time that leases and delays are counted on: the server's, in microseconds since 1970.
CREATE FUNCTION @SCHEMA@.now_micros() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Draws `most` numbers for events. Its transaction's id is drawn first: who later misses the
-- numbers between two that it sees knows that their transactions had begun.
CREATE FUNCTION @SCHEMA@.draw(most bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    said text := current_setting('railbus.next', true);
    mine CONSTANT text := '@NAME@:';
    number bigint;
BEGIN
    PERFORM pg_current_xact_id();
    IF starts_with(coalesce(said, ''), mine) THEN
        number := substr(said, length(mine) + 1)::bigint;
        IF (number & 1048575) = 0 OR (number & 1048575) + most > 1048576 THEN
            number := NULL;
        END IF;
    END IF;
    number := coalesce(number, nextval('@SCHEMA@.transactions'::regclass) << 20);
    PERFORM set_config('railbus.next', mine || (number + most), true);
    RETURN number;
END $$;

-- Stores events, numbered from `first_seq` on.
CREATE FUNCTION @SCHEMA@.insert_events(
    first_seq bigint, ids text[], types text[], topics text[], keys text[], delays bigint[],
    bodies bytea[], of_runs bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    n CONSTANT bigint := cardinality(bodies);
    at CONSTANT bigint := @SCHEMA@.now_micros();
BEGIN
    -- Lists side by side are faster than one joined with its ordinals.
    IF keys IS NULL AND delays IS NULL AND of_runs IS NULL THEN
        INSERT INTO @SCHEMA@.events (seq, id, type, topic, body)
        SELECT generate_series(first_seq, first_seq + n - 1), unnest(ids), unnest(types),
            unnest(topics), unnest(bodies);
    ELSE
        INSERT INTO @SCHEMA@.events (seq, id, type, topic, key, due, run, body)
        SELECT generate_series(first_seq, first_seq + n - 1), unnest(ids), unnest(types),
            unnest(topics), unnest(keys), at + unnest(delays), unnest(of_runs), unnest(bodies);
    END IF;
    INSERT INTO @SCHEMA@.batches (first, n, at) VALUES (first_seq, n, at);
END $$;

-- Stores events in a transaction of their own.
CREATE FUNCTION @SCHEMA@.publish(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[]
) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- The transaction's id first, as `draw` has it.
    first_seq CONSTANT bigint := CASE WHEN pg_current_xact_id() IS NOT NULL
        THEN nextval('@SCHEMA@.transactions'::regclass) << 20 END;
BEGIN
    PERFORM @SCHEMA@.insert_events(
        first_seq, ids, types, topics, keys, delays, bodies, of_runs);
    RETURN first_seq;
END $$;

-- Stores events in the transaction that it is called in, whatever else that does. All calls of one
-- share the transaction's number.
CREATE FUNCTION @SCHEMA@.enlist(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[]
) RETURNS void LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT @SCHEMA@.insert_events(
        @SCHEMA@.draw(cardinality(bodies)), ids, types, topics, keys, delays, bodies, of_runs)
$$;

-- Moves an input from one offset to the next; false if it is not there.
CREATE FUNCTION @SCHEMA@.advance(
    input text, from_place bigint, to_place bigint, to_fingerprint bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    found record;
BEGIN
    PERFORM pg_advisory_xact_lock(@SCHEMA@.lock_class(), hashtext('input:' || input) | -2147483648);
    SELECT i.turn, i.place INTO found FROM @SCHEMA@.inputs i
    WHERE i.name = input ORDER BY i.turn DESC LIMIT 1;
    IF coalesce(found.place, 0) <> from_place THEN
        RETURN false;
    END IF;
    DELETE FROM @SCHEMA@.inputs i WHERE i.name = input AND i.turn = found.turn;
    INSERT INTO @SCHEMA@.inputs (name, turn, place, fingerprint)
    VALUES (input, coalesce(found.turn, 0) + 1, to_place, to_fingerprint);
    RETURN true;
END $$;

-- Marks an event that was just stored as one that never became any.
CREATE FUNCTION @SCHEMA@.reject(of_seq bigint, input text, why text) RETURNS void
LANGUAGE sql VOLATILE AS $$
    UPDATE @SCHEMA@.events SET rejected = true WHERE seq = of_seq;
    INSERT INTO @SCHEMA@.letters (seq, grp, subscription, reason, attempts, at)
    VALUES (of_seq, NULL, input, why, 0, @SCHEMA@.now_micros());
$$;

-- Stores events as `publish`, moves the inputs that they come from, and marks those that never
-- became any, counted from 0. If an input is not where a step begins, nothing is done.
CREATE FUNCTION @SCHEMA@.publish_steps(
    ids text[], types text[], topics text[], keys text[], delays bigint[], bodies bytea[],
    of_runs bigint[], inputs text[], froms bigint[], tos bigint[], fingerprints bigint[],
    nths bigint[], sources text[], reasons text[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first_seq CONSTANT bigint := @SCHEMA@.publish(ids, types, topics, keys, delays, bodies, of_runs);
BEGIN
    FOR nth IN 1 .. cardinality(inputs) LOOP
        IF NOT @SCHEMA@.advance(inputs[nth], froms[nth], tos[nth], fingerprints[nth]) THEN
            RAISE EXCEPTION 'railbus: the input % is elsewhere', inputs[nth] USING ERRCODE = 'RB001';
        END IF;
    END LOOP;
    FOR nth IN 1 .. cardinality(nths) LOOP
        PERFORM @SCHEMA@.reject(first_seq + nths[nth], sources[nth], reasons[nth]);
    END LOOP;
END $$;
