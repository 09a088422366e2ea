-- It tells more than it did.
DROP FUNCTION IF EXISTS @SCHEMA@.sweep(bigint, bigint, boolean);
