"""What is remembered of tokens that were seen, and asking once for many callers."""
