"""An HTTP server for a student: predictions in shared batches, limits, metrics, and inputs that it does not know."""
