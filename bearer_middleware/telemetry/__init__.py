"""Where what was counted is shown: OpenTelemetry and Prometheus, from the same readings."""
