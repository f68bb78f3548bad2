"""What arrived. Pure functions: no network, no clock of their own."""
