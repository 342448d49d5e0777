"""Restoring for practice: a backup and its WAL become a running PostgreSQL, which is examined and thrown away.

| file | what |
|---|---|
| `result.py` | how a drill ended, as it is kept and printed |
| `programs.py` | PostgreSQL's programs of the backup's major |
| `scratch.py` | the folder of one drill: made, handed over, cleared, also after a drill that died |
| `claim.py` | what a tier says it holds, and whether the recovered point is behind that |
| `feeding.py` | WAL for the restored server, from the drill's own process |
| `configuration.py` | settings that keep the restored server to itself |
| `server.py` | the restored server |
| `examining.py` | pg_amcheck, questions |
| `judging.py` | what an error says of the backup |
| `request.py`, `cold.py` | what is asked for; which tier, and which key |
| `course.py`, `drill.py` | the steps; the drill |
| `service.py`, `figures.py`, `cli.py`, `commands.py` | on a schedule, on /metrics, by command |
"""
