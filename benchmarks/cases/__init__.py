"""The groups of cases, one module each; each runs in a process of its own."""
