-- What is no integer as it is written ('abc', ' 7 ', null) keeps its original, so that the way back is exact.
ALTER TABLE people RENAME COLUMN age TO age_as_written;
ALTER TABLE people ADD COLUMN age integer NOT NULL DEFAULT 0;
UPDATE people SET age = trim(age_as_written)::integer WHERE trim(age_as_written) ~ '^[0-9]{1,9}$';
