"""Asking and answering: effects, drivers, flights, transport and memory."""
