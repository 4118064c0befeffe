"""DeepScaleR's 40 thousand competition problems: AIME, AMC, Omni-MATH and STILL (Luo et al. 2025, Notion)."""

from __future__ import annotations

from data.hub import published
from data.problem import Problem, ask
from data.rows import answer_field, section, text_field


def deepscaler(split: str = "train", path: str | None = None, limit: int | None = None) -> list[Problem]:
    """The problems (40,315, one split), from a local file or from hub agentica-org/DeepScaleR-Preview-Dataset.

    `path`: the published deepscaler.json or the same as JSON Lines, {"problem": ..., "answer": ..., "solution": ...}.
    `limit` keeps the first rows. metadata: the solution, where there is one.
    """
    key = f"{section(split)}.deepscaler"
    rows = published("agentica-org/DeepScaleR-Preview-Dataset", split, path=path, key=key, limit=limit)
    return [
        Problem(
            id=f"deepscaler/{split}/{index:05d}",
            messages=ask(text_field(row, "problem", where)),
            answer=answer_field(row, "answer", where),
            source="deepscaler",
            metadata={"solution": row["solution"]} if row.get("solution") else {},
        )
        for index, (where, row) in enumerate(rows)
    ]
