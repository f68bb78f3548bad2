"""Where the street meets the frameworks. Each is imported only by its own adapter."""
