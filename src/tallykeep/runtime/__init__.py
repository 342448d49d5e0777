"""What runs: collectors on their schedule, services under supervision, state on disk."""
