-- The role that tallykeep protects a cluster with: psql -f deploy/postgres/role.sql, then \password tallykeep.
-- It may stream WAL, take base backups and see how far the server is. It reads no tables.
--
-- pg_hba.conf wants two lines for it, one for replication and one for the database that is asked:
--   hostssl replication tallykeep 10.0.0.0/8 scram-sha-256
--   hostssl postgres    tallykeep 10.0.0.0/8 scram-sha-256
CREATE ROLE tallykeep LOGIN REPLICATION;

-- With it a dead tallykeep cannot fill the primary's disk; it loses its slot instead, and takes a new base backup.
-- ALTER SYSTEM SET max_slot_wal_keep_size = '64GB';

-- With it no commit that a client was told of is lost with the primary.
-- ALTER SYSTEM SET synchronous_standby_names = 'tallykeep';
-- SELECT pg_reload_conf();
