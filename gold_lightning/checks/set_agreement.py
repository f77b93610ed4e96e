"""Asks the generator about each label of a row by itself, for tasks whose rows have several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gold_lightning.checks.label_agreement import LabelCheck
from gold_lightning.generators.base import Completion, Request, has_preference
from gold_lightning.likelihoods import Calibration, LabelCalibrator, SetCalibrator
from gold_lightning.questions import label_question
from gold_lightning.task import Sample

__all__ = ["SetCheck"]

_DEMOS = 2  # in a prompt, with the label, and as many without it
_MOST_ODDS = 50.0  # if only one of the answers has any likelihood


class SetCheck(LabelCheck):
    """Asks for each label whether it fits: as many requests for a row as there are labels.

    The likelihood of a whole set could be compared with that of few other sets, and texts of several labels are less
    likely than shorter ones. So each label is a question, answered by yes or no; its likelihood is the logarithm of the
    odds, which are calibrated over rows with and without the label. A sample's labels agree if each label of the task
    is likelier than not exactly if the sample has it.

    The arguments are those of :class:`LabelCheck`.
    """

    def _one_of_each(self) -> list[Sample]:
        self._shows = "shows four demos,"
        return []

    def _calibrators(self, kind: Calibration) -> tuple[LabelCalibrator, LabelCalibrator]:
        assert self.task.many is not None
        calibrator = SetCalibrator(self.task.label_names, kind, self.task.many)
        return calibrator, calibrator

    def requests(self, fields: Mapping[str, str]) -> list[Request]:
        # Equal rows are left out of their own prompts, so that the answers to demos can calibrate others.
        demos = [d for d in self._order if dict(d.fields) != dict(fields)]
        requests = []
        for label in self.task.label_names:
            fitting = [d for d in demos if label in (self.task.labels_of(d.target) or ())][:_DEMOS]
            others = [d for d in demos if label not in (self.task.labels_of(d.target) or ())][:_DEMOS]
            requests.append(label_question(self.task, label, fields, fitting, others))
        return requests

    def log_probs(self, completions: Sequence[Completion]) -> Sequence[float]:
        odds = []
        for completion in completions:
            if len(completion.choice_log_probs) != 2 or not has_preference(completion.choice_log_probs):
                return ()
            yes, no = completion.choice_log_probs
            odds.append(min(_MOST_ODDS, max(-_MOST_ODDS, yes - no)))
        return tuple(odds)

    def _calibration_demos(self) -> list[Sample]:
        return list(self.task.demos)
