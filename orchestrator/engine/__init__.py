"""The engine: one verb = one module beside its SQL. It imports no model.

Verbs take a `Session` first: Django's connection for producers, which join the
caller's transaction, or a worker's own connection for verbs that are durable
transactions of their own.

Every verb but the claim first locks its Run rows in id order, then, in this order:
lease, task run and attempt, wait, delayed item and queue item, open run, deadline.
The claim locks queue items alone, with SKIP LOCKED, and never waits.
"""
