"""Durable tasks: functions whose calls are recorded, and that wait without a slot.

`declare` makes them of functions, `tasks` has the standalone ones, `context` is what
they are handed. The rest is behind that: `calls` and `asked` say what is called,
`keepers` where it is recorded, `branches` how async ones go on side by side.
"""
