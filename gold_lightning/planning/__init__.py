"""Plans which requests a round sends."""
