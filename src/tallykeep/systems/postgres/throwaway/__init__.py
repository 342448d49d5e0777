"""A backup and its WAL become a running PostgreSQL that is thrown away: for drills, and for `open`.

| file | what |
|---|---|
| `ended.py`, `judging.py` | why there is no server; what an error says of the backup |
| `programs.py` | PostgreSQL's programs of the backup's major |
| `scratch.py` | the folder of one server: made, handed over, cleared, also after its process died |
| `claim.py` | what is said to be held, and whether the recovered point is behind that |
| `feeding.py`, `within.py` | WAL for the restored server, from this process; tablespaces in it kept within the copy |
| `configuration.py` | settings that keep the restored server to itself |
| `server.py` | the restored server |
| `making.py`, `watch.py` | the steps from a backup to that server; who is told of them |
"""
