-- What a fleet has in common beside events: `common_marks` of what is handled once, which a holder
-- has claimed or, without one, is done, until then; and `common_buckets` of tokens, with what was in
-- them at a time.
CREATE TABLE @SCHEMA@.common_marks (
    space text NOT NULL,
    key text NOT NULL,
    holder text,
    until bigint NOT NULL,
    PRIMARY KEY (space, key)
);
CREATE INDEX common_marks_until ON @SCHEMA@.common_marks (until);
CREATE TABLE @SCHEMA@.common_buckets (
    name text PRIMARY KEY,
    level double precision NOT NULL,
    at bigint NOT NULL
) WITH (fillfactor = 20);
