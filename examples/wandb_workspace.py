"""Saves a W&B workspace for runs of gold_lightning: python examples/wandb_workspace.py --entity NAME --project NAME.

It needs an account (``wandb login``) and ``pip install wandb-workspaces``. ``--show`` prints the request instead of
sending it. The panels show the values that ``gold_lightning.watching.loggers`` logs; docs/watch-a-run.md lists them.
"""

from __future__ import annotations

import argparse

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

STEP = "trainer/global_step"


def line(title: str, *keys: str) -> wr.LinePlot:
    """Plots metrics over training steps."""
    return wr.LinePlot(title=title, x=STEP, y=list(keys))


def pattern(title: str, regex: str) -> wr.LinePlot:
    """Plots all metrics with names that match a pattern, over training steps."""
    return wr.LinePlot(title=title, x=STEP, metric_regex=regex)


def sections() -> list[ws.Section]:
    """Returns the sections from top to bottom: result, loop, data, costs."""
    return [
        ws.Section(
            name="Result",
            is_open=True,
            panels=[line("metric by round", "val/metric"), line("loss", "train/loss", "val/loss")],
        ),
        ws.Section(
            name="Loop",
            is_open=True,
            panels=[
                wr.MediaBrowser(title="energies and band", media_keys=["probe/energy_band"]),
                line("energy", "probe/energy_mean", "train/energy_mean", "probe/band_low", "probe/band_high"),
                line("AUROC, probe against training", "probe/auroc"),
                wr.WeavePanelSummaryTable(table_name="probe/fed_back_samples"),
                line("fed back", "round/fed_back", "round/pool", "round/feedback_prompts"),
            ],
        ),
        ws.Section(
            name="Data",
            is_open=True,
            panels=[
                line("yield", "round/yield", "round/probe_yield"),
                pattern("rejects by reason", "(train|probe)/rejects_.*"),
                pattern("samples by label", "(train|probe)/label_.*"),
                line("distinct pairs of words", "train/distinct_2", "probe/distinct_2"),
                line("self-BLEU (lower = more varied)", "train/self_bleu", "probe/self_bleu"),
                line("words of a sample", "train/words_q05", "train/words_q50", "train/words_q95"),
            ],
        ),
        ws.Section(
            name="Costs",
            is_open=True,
            panels=[
                line("tokens so far", "run/tokens_prompt", "run/tokens_completion"),
                line("dollars so far (if tokens have a price)", "run/cost"),
                line("generation, tokens a second", "round/tokens_per_second"),
                line("seconds", "round/seconds_generation", "round/seconds_training", "round/seconds_scoring"),
            ],
        ),
    ]


def workspace(entity: str, project: str) -> ws.Workspace:
    """Returns the workspace. W&B itself adds panels for the histograms of energies."""
    return ws.Workspace(
        entity=entity,
        project=project,
        name="gold_lightning",
        sections=sections(),
        settings=ws.WorkspaceSettings(x_axis=STEP),
        auto_generate_panels=True,
    )


def main(args: list[str] | None = None) -> None:
    """Saves the workspace, or prints it."""
    parser = argparse.ArgumentParser(description="Saves a W&B workspace for runs of gold_lightning.")
    parser.add_argument("--entity", required=True, help="your name or your team's on W&B")
    parser.add_argument("--project", default="gold_lightning")
    parser.add_argument("--show", action="store_true", help="print the request instead of sending it")
    arguments = parser.parse_args(args)
    new_workspace = workspace(arguments.entity, arguments.project)
    if arguments.show:
        print(new_workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1))
    else:
        print(new_workspace.save().url)


if __name__ == "__main__":
    main()
