-- They are told, or tell, more than before.
DROP FUNCTION IF EXISTS @SCHEMA@.sweep(bigint, bigint, boolean);
DROP FUNCTION IF EXISTS @SCHEMA@.doomed(bigint, bigint, bigint);
DROP FUNCTION IF EXISTS @SCHEMA@.take_in(
    integer, bigint, bigint, bigint, text[], text[], int8multirange);
DROP FUNCTION IF EXISTS @SCHEMA@.claim_keyed(
    integer, bigint, bigint, bigint, text[], text[], integer, bigint, bigint, bigint, bigint, bigint);
DROP FUNCTION IF EXISTS @SCHEMA@.next_due(integer, bigint);
-- Where a look through deliveries begins, so that those which are over are not gone through again, as
-- the server can't clean up while a transaction is held open: no place below `low` is open in a group
-- that keeps order, and nothing was due before `since` when the group was locked last.
ALTER TABLE @SCHEMA@.cursors ADD COLUMN low bigint NOT NULL DEFAULT 0,
    ADD COLUMN since bigint NOT NULL DEFAULT 0;
-- Of those that wait for their key, and of those that may hold it.
DROP INDEX @SCHEMA@.deliveries_key;
CREATE INDEX deliveries_key ON @SCHEMA@.deliveries (grp, key, place)
    WHERE open AND key IS NOT NULL AND due = 9223372036854775807;
CREATE INDEX deliveries_holds ON @SCHEMA@.deliveries (grp, key, place)
    WHERE open AND key IS NOT NULL AND due < 9223372036854775807;
