ALTER TABLE accounts DROP CONSTRAINT accounts_email_key;
INSERT INTO accounts SELECT * FROM accounts_duplicates ON CONFLICT (id) DO NOTHING;
DROP TABLE accounts_duplicates;
