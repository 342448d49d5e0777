"""tallykeep keeps data restorable and keeps the tally of what is used."""

__version__ = "0.1.0"
