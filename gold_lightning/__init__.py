"""Knowledge distillation by out-of-distribution-guided data generation (GOLD), as a Lightning application."""

__version__ = "0.1.0"
