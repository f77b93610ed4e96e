"""How often the promises of a calibration are kept: 1,000 draws of rows from a population that is known.

Run from the repository's root: ``python -m benchmarks.calibration``. Prints a line for each promise and number of rows.
"""

from __future__ import annotations

import sys

from gold_lightning.calibration.fitting import CalibrationSettings
from tests.calibration.simulation import Population, simulate


def main(draws: int = 1000) -> None:
    """Prints the table."""
    population = Population()
    for rows in (200, 600, 2000):
        settings = CalibrationSettings(level=0.95, confidence=0.9)
        outcome = simulate(population, rows, settings, draws, inputs=20_000)
        print(
            f"selective, 95 % right with 90 % confidence, {rows:,} rows: promised in {outcome.made:.1%} of the draws, "
            f"kept or not made in {outcome.kept:.1%}; {outcome.coverage:.1%} known on average",
            flush=True,
        )
    for name, small in (("easy", Population(8.0, 3.0)), ("hard", population)):
        for rows in (30, 60, 120, 600):
            settings = CalibrationSettings(lowest_level=0.7)
            outcome = simulate(small, rows, settings, draws, inputs=20_000)
            levels = ", ".join(f"{share:.0%} at {level:.0%}" for level, share in sorted(outcome.made_at.items()))
            print(
                f"as fit promises, {name} inputs, {rows:,} rows: promised in {outcome.made:.1%} of the draws "
                f"({levels}), kept or not made in {outcome.kept:.1%}; {outcome.coverage:.1%} known on average",
                flush=True,
            )
    for level in (0.8, 0.9, 0.95):
        outcome = simulate(Population(easiest=3.0), 200, CalibrationSettings("conformal", level), draws, inputs=20_000)
        print(
            f"conformal, {level:.0%}, 200 rows: {outcome.kept:.2%} of the sets hold the right label; "
            f"{outcome.set_size:.2f} labels on average",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
