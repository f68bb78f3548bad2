"""``surface``: every route of an application, with what protects it."""
