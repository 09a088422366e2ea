-- Reads events behind a place that one of the pairs wants, whatever groups have come to. `delay`
-- says in how many microseconds one that is held back is due. The last row is no event: it has the
-- place up to which this looked, and as `delay` 1 if there is more.
CREATE FUNCTION @SCHEMA@.hear(
    behind bigint, types text[], topics text[], most integer, most_bytes bigint
) RETURNS TABLE (place bigint, delay bigint, body bytea) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    now CONSTANT bigint := @SCHEMA@.now_micros();
    newest bigint;
    upto bigint;
BEGIN
    SELECT l.place + l.n - 1 INTO newest FROM @SCHEMA@.log l ORDER BY l.place DESC LIMIT 1;
    IF coalesce(newest, 0) - behind < most THEN
        newest := @SCHEMA@.tick();
    END IF;
    upto := least(newest, behind + 1024);
    RETURN QUERY WITH chunk AS MATERIALIZED (
        SELECT l.place + e.seq - l.first AS place, e.seq, e.type, e.topic, e.due, e.body
        FROM (
            SELECT l.place, l.first, l.n FROM @SCHEMA@.log l
            WHERE l.place <= upto AND l.place >= coalesce((
                SELECT b.place FROM @SCHEMA@.log b
                WHERE b.place <= behind + 1 ORDER BY b.place DESC LIMIT 1), 0)
            ORDER BY l.place
        ) AS l CROSS JOIN LATERAL (
            SELECT e.seq, e.type, e.topic, e.due, e.body FROM @SCHEMA@.events e
            WHERE e.seq >= l.first + greatest(behind + 1 - l.place, 0)
              AND e.seq < l.first + least(l.n, upto + 1 - l.place) AND NOT e.rejected
            ORDER BY e.seq
        ) AS e
    ), held AS MATERIALIZED (
        -- As a claim has it: what is withdrawn meanwhile is heard by nobody.
        SELECT e.seq FROM (
            SELECT c.seq FROM chunk c WHERE c.due IS NOT NULL ORDER BY c.seq
        ) AS c JOIN @SCHEMA@.events e ON e.seq = c.seq FOR KEY SHARE OF e
    ), kinds AS MATERIALIZED (
        SELECT k.type, k.topic FROM (SELECT DISTINCT c.type, c.topic FROM chunk c) AS k
        WHERE @SCHEMA@.wants(types, topics, k.type, k.topic)
    ), counted AS MATERIALIZED (
        SELECT c.place, c.due, c.body, count(*) OVER w AS nth,
            sum(octet_length(c.body)) OVER w - octet_length(c.body) AS before
        FROM chunk c JOIN kinds k ON k.type = c.type AND k.topic = c.topic
        WHERE c.due IS NULL OR c.seq IN (SELECT h.seq FROM held h)
        WINDOW w AS (ORDER BY c.place ROWS UNBOUNDED PRECEDING)
    ), cut AS MATERIALIZED (
        SELECT coalesce(min(c.place), upto + 1) AS place FROM counted c
        WHERE c.nth > most OR c.before >= most_bytes
    )
    (SELECT c.place, greatest(coalesce(c.due, 0) - now, 0), c.body FROM counted c, cut
        WHERE c.place < cut.place ORDER BY c.place)
    UNION ALL
    SELECT greatest(cut.place - 1, behind), (cut.place - 1 < newest)::integer::bigint, NULL FROM cut;
END $$;

-- Reads what was held back, at its places, by now: `delay` says in how many microseconds it is due.
CREATE FUNCTION @SCHEMA@.hear_again(at_places bigint[])
RETURNS TABLE (place bigint, delay bigint, body bytea) LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY WITH there AS MATERIALIZED (
        SELECT p.place, p.nth, e.due, e.body
        FROM unnest(at_places) WITH ORDINALITY AS p (place, nth)
        JOIN @SCHEMA@.events e ON e.seq = @SCHEMA@.seq_at(p.place) FOR KEY SHARE OF e
    )
    SELECT t.place, greatest(coalesce(t.due, 0) - @SCHEMA@.now_micros(), 0), t.body
    FROM there t ORDER BY t.nth;
END $$;
