"""Ray traces tasks with OpenTelemetry if it is told to; here is only what tells that nobody did."""
