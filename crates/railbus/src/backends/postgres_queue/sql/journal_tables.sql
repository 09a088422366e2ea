-- Runs of pipelines, not to be confused with `runs`, which are an app's. One is open (`state` null),
-- leased by `owner` under `fence` until `until`, and left from then on, and `cancel` asks for its end;
-- or it has ended in `state` at `ended_at`. `records` counts its rows in `journal_records`, `touched`
-- is when something last happened in it. What may be large, and stays as it is, has tables of its
-- own, so that a record does not write it again. Times are the server's.
--
-- What each record changes is in no index, and there is room in each page: so no index grows by it.
CREATE TABLE @SCHEMA@.journal (
    number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id text COLLATE "C" NOT NULL UNIQUE,
    pipeline text NOT NULL,
    shape bigint NOT NULL,
    owner text NOT NULL,
    fence bigint NOT NULL DEFAULT 1,
    until bigint NOT NULL,
    touched bigint NOT NULL,
    records bigint NOT NULL DEFAULT 0,
    cancel boolean NOT NULL DEFAULT false,
    began_at bigint NOT NULL,
    ended_at bigint,
    state text,
    error text
) WITH (fillfactor = 60);
CREATE INDEX journal_open ON @SCHEMA@.journal (number) WHERE state IS NULL;
CREATE INDEX journal_ended ON @SCHEMA@.journal (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX journal_shape ON @SCHEMA@.journal (shape);
CREATE TABLE @SCHEMA@.journal_inputs (run bigint PRIMARY KEY, input text NOT NULL);
CREATE TABLE @SCHEMA@.journal_records (
    run bigint NOT NULL,
    number bigint NOT NULL,
    path text NOT NULL,
    visit bigint NOT NULL,
    at bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (run, number)
);
-- By their hashes: a path may be longer than what an index takes.
CREATE INDEX journal_places ON @SCHEMA@.journal_records (run, hashtextextended(path, 0));
-- Runs that are gone and whose records are not yet, since there may be too many for one transaction.
CREATE TABLE @SCHEMA@.journal_trash (run bigint PRIMARY KEY);
-- Graphs, each kept once however many runs have it.
CREATE TABLE @SCHEMA@.shapes (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    version text NOT NULL,
    body text NOT NULL
);
CREATE INDEX shapes_body ON @SCHEMA@.shapes (hashtextextended(body, 0));
