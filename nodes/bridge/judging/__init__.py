"""The referee as a judge of finished pictures."""
