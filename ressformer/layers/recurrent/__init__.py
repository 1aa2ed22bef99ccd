"""Gated linear recurrences: the delta rule and the state-space dual, chunk by chunk, and what they are made of."""
