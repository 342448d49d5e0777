"""History: time series in SQLite, for as long as it is asked to remember."""
