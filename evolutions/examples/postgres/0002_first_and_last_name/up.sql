-- The last word is the last name. Where putting the two together would not give the name as it was (spaces, a single word),
-- the original stays in name_as_written.
ALTER TABLE customers ADD COLUMN first_name text, ADD COLUMN last_name text, ADD COLUMN name_as_written text;

UPDATE customers
SET first_name = split.first, last_name = split.last,
    name_as_written = CASE WHEN name IS DISTINCT FROM split.first || ' ' || split.last THEN name END
FROM (
    SELECT id,
           CASE WHEN cardinality(words) > 1 THEN array_to_string(words[:cardinality(words) - 1], ' ') ELSE coalesce(words[1], '') END AS first,
           CASE WHEN cardinality(words) > 1 THEN words[cardinality(words)] ELSE '' END AS last
    FROM (SELECT id, array_remove(string_to_array(name, ' '), '') AS words FROM customers WHERE name IS NOT NULL) AS of
) AS split
WHERE split.id = customers.id;

ALTER TABLE customers DROP COLUMN name;
