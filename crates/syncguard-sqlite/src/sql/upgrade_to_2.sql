-- Upgrades the schema from revision 1 to 2 and ends the transaction. Clients that know only revision 1 keep
-- working together with those that know 2.
--
-- In:  nothing
-- Out: nothing
ALTER TABLE syncguard_schema ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

UPDATE syncguard_schema SET revision = 2 WHERE id = 1;

COMMIT;
