"""Writes one of the random checkpoints."""

from programs import given, random_checkpoints

found = {}

getattr(random_checkpoints, given["kind"])(*given["arguments"])
