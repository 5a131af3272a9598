-- Of several the oldest stays (created_at, then id). They are kept whole, for the way back.
CREATE TABLE accounts_duplicates AS
SELECT a.*
FROM (SELECT id, row_number() OVER (PARTITION BY email ORDER BY created_at, id) AS place FROM accounts WHERE email IS NOT NULL) AS of
JOIN accounts a USING (id)
WHERE place > 1;

DELETE FROM accounts USING accounts_duplicates d WHERE accounts.id = d.id;

ALTER TABLE accounts ADD CONSTRAINT accounts_email_key UNIQUE (email);
