-- Finds by its id what is held back since it was published.
CREATE INDEX events_held ON @SCHEMA@.events (id) WHERE due IS NOT NULL;
