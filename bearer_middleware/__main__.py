"""``bearer-middleware``, or ``python -m bearer_middleware``: the commands."""
