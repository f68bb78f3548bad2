"""What is revoked: marks, and the state that every request is held against."""
