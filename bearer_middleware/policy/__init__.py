"""May they? Decision points, routes and the answers of policy outside the code."""
