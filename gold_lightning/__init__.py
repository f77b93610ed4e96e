"""Knowledge distillation by out-of-distribution-guided data generation (GOLD), as a Lightning application."""

from gold_lightning import _compat

__version__ = "0.1.0"

_compat.install()
