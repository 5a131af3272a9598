-- Each statement commits by itself and can be repeated: after a failure the next attempt begins with the one that failed.
ALTER TABLE members ADD COLUMN IF NOT EXISTS status text NOT NULL DEFAULT 'active';

UPDATE members SET status = 'inactive' WHERE deleted AND status = 'active';

-- A build that failed leaves an invalid index behind.
DROP INDEX CONCURRENTLY IF EXISTS members_status;
CREATE INDEX CONCURRENTLY members_status ON members (status, id);
