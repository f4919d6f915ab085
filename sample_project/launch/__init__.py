"""``make run`` and ``make demo``: the whole sample in one process group.

``__main__``   the steps, in order
``prepare``    database, migrations, demo user
``processes``  start, watch, restart and end the child processes
``web``        a free port, and waiting for the server behind it
"""

from __future__ import annotations
