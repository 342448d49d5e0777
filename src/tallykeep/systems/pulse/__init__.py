"""Pulse: what the gateway did today, this week, this month, from its metrics page."""
