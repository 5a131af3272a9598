-- Ages that changed meanwhile come back as they are now, the others as they were written.
UPDATE people
SET age_as_written = age::text
WHERE age <> CASE WHEN trim(age_as_written) ~ '^[0-9]{1,9}$' THEN trim(age_as_written)::integer ELSE 0 END;
ALTER TABLE people DROP COLUMN age;
ALTER TABLE people RENAME COLUMN age_as_written TO age;
