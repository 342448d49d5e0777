"""`tallykeep postgres open`: a throw-away server at a moment, for people and for programs.

| file | what |
|---|---|
| `door.py` | how it is connected to |
| `opening.py` | it is made, and goes with its context |
| `program.py` | a program that is run beside it |
| `cli.py`, `commands.py` | the command |
"""
