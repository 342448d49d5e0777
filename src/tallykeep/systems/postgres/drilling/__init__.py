"""Restoring for practice: a throw-away server is made of a backup and its WAL, and examined.

| file | what |
|---|---|
| `result.py` | how a drill ended, as it is kept and printed |
| `request.py`, `cold.py` | what is asked for; which tier, and which key |
| `examining.py` | pg_amcheck, questions |
| `course.py`, `drill.py` | the steps; the drill |
| `service.py`, `figures.py`, `cli.py`, `commands.py` | on a schedule, on /metrics, by command |
"""
