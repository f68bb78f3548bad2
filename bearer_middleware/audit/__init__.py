"""Who was let in to what, and why: one event for every decision."""
