-- What `v1v2 evolve` remembers: one line per evolution that was ever applied to V2.
--
-- `v1v2 setup` runs this file each time, and `v1v2 evolve` runs it where setup never was; it leaves alone what is there. Like
-- control.sql it belongs to the program and cannot be replaced.
CREATE TABLE IF NOT EXISTS v1v2.evolutions (
    -- The number that its folder's name begins with.
    number        integer PRIMARY KEY,
    name          text NOT NULL,
    -- What was done last, or is being done, and how far that is.
    direction     text NOT NULL CHECK (direction IN ('up', 'down')),
    state         text NOT NULL CHECK (state IN ('applied', 'failed', 'running', 'reverted')),
    -- SHA-256 over all files of its folder, as they were applied.
    checksum      text NOT NULL,
    -- All or nothing; otherwise: statements that are done, with their checksum, and whether the next was begun.
    transactional boolean NOT NULL,
    done          integer NOT NULL DEFAULT 0,
    done_checksum text,
    begun         boolean NOT NULL DEFAULT false,
    -- The order in which evolutions were applied.
    serial        bigint NOT NULL,
    applied_by    text NOT NULL,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    duration_ms   bigint,
    tool_version  text NOT NULL,
    error         text
);
