-- Handlers whose current run started at another time than their place in listings says: they ran
-- again, or a clock was set. A listing by the time of the start finds all others by their place.
CREATE INDEX listing_apart ON runs (tenant, handler_created_at, handler_id, started_at)
    WHERE is_current AND abs(started_at - handler_created_at) > 1000000;
