"""What we ask the authorization server: metadata, keys, introspection. All of it is flows."""
