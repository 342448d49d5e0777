"""PostgreSQL: WAL and base backups kept so that nothing acknowledged is lost, and drills that prove it."""
