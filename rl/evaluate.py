"""How good the policy is on held-out problems: avg@k, pass@k, maj@k and a 95 % interval.

n  completions of one problem        c  right ones among them        N  problems
"""

from __future__ import annotations

import difflib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from rl.experience import Prompt, ScoredGroup
from rl.metrics import Gather

Z_95 = 1.959963984540054  # the 97.5 % quantile of the standard normal distribution
TINY = 1e-300  # in place of a variance of 0
RIGHT = 1.0  # the least value of a reward term that says "right"
Extract = Callable[[str], str | None]  # the answer within a completion's text, None where there is none


@dataclass(frozen=True, slots=True)
class ProblemResult:
    """What became of one problem, small enough to send between ranks."""

    key: tuple[int, str, str]  # prompt index, source, problem id
    correct: tuple[bool, ...]  # [n], False also where the grader failed
    majority: bool | None  # whether the most common answer is right; None without an extract function
    num_tokens: int  # over the n completions
    num_truncated: int
    num_failed: int  # completions that some term could not score; one without an answer is not among them
    terms: dict[str, tuple[float, int]]  # reward term -> its sum, and over how many completions


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy over problems. Fractions are in [0, 1]."""

    avg: float  # avg@k
    passed: float  # pass@pass_k
    majority: float | None  # maj@k; None without an extract function
    interval: tuple[float, float]  # 95 % interval of avg over problems, see interval_95
    completion_tokens: float  # mean length of a completion, tokens
    truncated_fraction: float  # completions cut at max_tokens
    failed_fraction: float  # completions that some term could not score
    num_problems: int
    k: int  # completions of one problem
    pass_k: int
    terms: Mapping[str, float] = field(default_factory=dict)  # reward term -> mean over what it could grade
    groups: tuple[ScoredGroup, ...] = ()  # the first few, to print

    def metrics(self, dataset: str) -> dict[str, float]:
        """The values under their names in rl/metrics.py."""
        named = {
            f"avg@{self.k}": self.avg,
            f"pass@{self.pass_k}": self.passed,
            "ci_low": self.interval[0],
            "ci_high": self.interval[1],
            "completion_tokens": self.completion_tokens,
            "truncated_fraction": self.truncated_fraction,
            "failed_fraction": self.failed_fraction,
            **{f"reward/{term}": mean for term, mean in self.terms.items()},
        }
        if self.majority is not None:
            named[f"maj@{self.k}"] = self.majority
        return {f"eval/{dataset}/{name}": value for name, value in named.items()}


def avg_at_k(correct: Sequence[bool]) -> float:
    """c / n: the accuracy on one problem."""
    return sum(correct) / len(correct)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k completions is right, estimated without bias from n of which c are right.

        1 - C(n - c, k) / C(n, k)        Chen et al., arXiv:2107.03374, equation 1

    In whole numbers until the last division, so nothing overflows or cancels.
    ValueError unless 1 <= k <= n and 0 <= c <= n.
    """
    if not (1 <= k <= n and 0 <= c <= n):
        raise ValueError(f"pass@k needs 1 <= k <= n and 0 <= c <= n, got k={k}, n={n}, c={c}")
    ways = math.comb(n, k)
    return (ways - math.comb(n - c, k)) / ways


def maj_at_k(answers: Sequence[str | None], correct: Sequence[bool]) -> bool:
    """Whether the most common answer is right; of equally common ones the first to appear counts.

    None is a completion without an answer: it has no vote. An answer is right if any completion giving it was
    graded right: a grader that failed on one of them does not make it wrong.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return False
    (winner, _), *_ = votes.most_common(1)  # equal counts keep the order of first appearance
    return any(right for answer, right in zip(answers, correct, strict=True) if answer == winner)


def interval_95(accuracies: Sequence[float], n: int) -> tuple[float, float]:
    """95 % interval of the mean accuracy over problems, from each problem's c / n.

    Wilson's score interval (1927) of a proportion p, with the effective number of independent completions
    (Kish's design effect: the n completions of a problem resemble each other) in place of their number:

        M = p (1 - p) / s^2, between N and N n       s^2 = variance of the N accuracies / N
        (p + z^2 / 2M  +-  z sqrt(p (1 - p) / M + z^2 / 4M^2)) / (1 + z^2 / M)

    For n = 1 this is Wilson's interval itself. Where all or none are right s^2 says nothing and M is N: 0 of 200
    gives [0, 0.019], not [0, 0]. Other problems of the same kind are what the interval speaks about.
    """
    num_problems, p = len(accuracies), statistics.fmean(accuracies)
    spread = statistics.variance(accuracies) / num_problems if num_problems > 1 else math.inf
    size = min(max(p * (1 - p) / max(spread, TINY), num_problems), num_problems * n)
    centre = p + Z_95**2 / (2 * size)
    half = Z_95 * math.sqrt(p * (1 - p) / size + Z_95**2 / (4 * size**2))
    scale = 1 + Z_95**2 / size
    return max(0.0, min(p, (centre - half) / scale)), min(1.0, max(p, (centre + half) / scale))


def evaluate(
    scored: Sequence[ScoredGroup],
    *,
    correct: str = "",
    extract: Extract | None = None,
    pass_k: int = 0,
    gather: Gather | None = None,
    keep_groups: int = 3,
) -> Evaluation:
    """Collective if `gather` is given. Sums up this rank's scored groups; every rank returns the same.

    correct: the reward term that says right (1 or more) or wrong; empty: right is where every term gives 1 or more.
    extract: finds the answer that votes in maj@k; None: no maj@k.
    pass_k: k of pass@k; 0: as many as are sampled. A prompt that two ranks were given counts once.
    """
    results = [_result(group, correct, extract) for group in scored]
    local = (results, sorted(scored, key=lambda group: _key(group.group.prompt))[:keep_groups])
    ranks = cast(list[tuple[list[ProblemResult], list[ScoredGroup]]], gather(local) if gather else [local])
    merged = {result.key: result for rank_results, _ in ranks for result in rank_results}
    groups = {_key(group.group.prompt): group for _, rank_groups in ranks for group in rank_groups}
    first = tuple(groups[key] for key in sorted(groups)[:keep_groups])
    return _summary([merged[key] for key in sorted(merged)], pass_k, first)


def _key(prompt: Prompt) -> tuple[int, str, str]:
    return prompt.index, prompt.problem.source, prompt.problem.id


def _result(scored: ScoredGroup, correct: str, extract: Extract | None) -> ProblemResult:
    completions = scored.group.completions
    grades = _grades(scored, correct)
    right = tuple(grade >= RIGHT for grade in grades)  # NaN is not
    prefix = scored.group.prompt.prefix  # a <think> that the template wrote: an unfinished thought has no vote
    answers = [extract(prefix + completion.text) for completion in completions] if extract else []
    return ProblemResult(
        key=_key(scored.group.prompt),
        correct=right,
        majority=maj_at_k(answers, right) if extract else None,
        num_tokens=sum(len(completion.token_ids) for completion in completions),
        num_truncated=sum(completion.finish_reason == "length" for completion in completions),
        num_failed=len({failure.index for failure in scored.failures if failure.kind != "no_answer"}),
        terms={name: _known(values) for name, values in scored.terms.items()},
    )


def _known(values: Sequence[float]) -> tuple[float, int]:
    """Sum and number of the values that are not NaN."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known), len(known)


def _grades(scored: ScoredGroup, correct: str) -> list[float]:
    """[n]: the value of the term that says right or wrong, or the least of all terms; NaN where it failed."""
    if correct and correct not in scored.terms:
        near = difflib.get_close_matches(correct, scored.terms, n=1, cutoff=0.0)
        raise ValueError(
            f"eval.correct={correct!r} names no reward, the rewards are {', '.join(scored.terms) or 'none'}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
    if correct:
        return list(scored.terms[correct])
    columns = zip(*scored.terms.values(), strict=True)
    return [math.nan if any(map(math.isnan, values)) else min(values) for values in columns]


def _summary(results: Sequence[ProblemResult], pass_k: int, groups: tuple[ScoredGroup, ...]) -> Evaluation:
    if not results:
        raise ValueError("an evaluation needs at least one problem, got none; see eval.data")
    k = len(results[0].correct)
    pass_k = pass_k or k
    if pass_k > k:
        raise ValueError(f"pass@{pass_k} needs {pass_k} completions of a problem, got eval.sampling.completions={k}")
    num_completions = sum(len(result.correct) for result in results)
    accuracies = [avg_at_k(result.correct) for result in results]
    votes = [result.majority for result in results if result.majority is not None]
    return Evaluation(
        avg=statistics.fmean(accuracies),
        passed=statistics.fmean(pass_at_k(len(r.correct), sum(r.correct), pass_k) for r in results),
        majority=statistics.fmean(votes) if votes else None,
        interval=interval_95(accuracies, k),
        completion_tokens=sum(result.num_tokens for result in results) / num_completions,
        truncated_fraction=sum(result.num_truncated for result in results) / num_completions,
        failed_fraction=sum(result.num_failed for result in results) / num_completions,
        num_problems=len(results),
        k=k,
        pass_k=pass_k,
        terms={name: _mean(results, name) for name in results[0].terms},
        groups=groups,
    )


def _mean(results: Sequence[ProblemResult], term: str) -> float:
    total, count = (sum(column) for column in zip(*(result.terms[term] for result in results), strict=True))
    return total / count if count else math.nan
