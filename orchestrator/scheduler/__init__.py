"""Schedulers: what time and dead workers make due. Any number run, all equal."""
