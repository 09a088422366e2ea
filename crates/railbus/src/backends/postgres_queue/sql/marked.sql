-- How many microseconds it took to see what was open, which is looked at again only after many times as
-- long: it may be much that is over and can't be cleaned up while a transaction is held open.
ALTER TABLE @SCHEMA@.marks ADD COLUMN took bigint NOT NULL DEFAULT 0;
