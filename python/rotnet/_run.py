"""Runs: making them, and reading how they went."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._binary import call


def run(
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    command: str = "run",
    existing: str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Trains, as `rotnet run` does, and returns the directory of the run.

    `config`: the name of a recipe (`rotnet config list`), a file, or a dictionary; if absent, what suits `data`, and
    without that the quickstart. `out` and `data` are the options of that name; `data` may also be settings of its section of the config. `command`: `run`, or one stage, which needs `out`: `pretrain`, `extract`, `finetune`. `existing`:
    `resume` or `force`; if absent, results that are there are an error. With `progress`, what the program says while it
    works goes to sys.stderr. `settings` change the config: `seed=5`, `pretrain={"epochs": 3}`,
    `encoder={"kind": "compact"}`.

    Raises `rotnet.Error` with the program's line of error.
    """
    if existing not in (None, "resume", "force"):
        raise ValueError(f"existing must be 'resume', 'force' or None, got {existing!r}")
    if command != "run" and out is None:
        raise ValueError(f"{command} goes on in a run's directory: name it with out")
    words: list[str | os.PathLike[str]] = [command, "--json"]
    words += [] if progress else ["--quiet"]
    words += [f"--{existing}"] if existing else []
    if isinstance(data, Mapping):
        settings, data = {**settings, "data": data}, None
    for option, value in (("--out", out), ("--data", data)):
        words += [option, value] if value is not None else []
    for key, value in _flat(settings):
        words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(config, Mapping):
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(dict(config)), encoding="utf-8")
            config = path
        words += ["--config", config] if config is not None else []
        result = json.loads(call(words, progress))
    return Path(result["run"] if out is None else out)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@dataclass(frozen=True)
class Stage:
    """How a stage went."""

    #: `summary.json`: accuracy, time and more; empty while the stage is not finished.
    summary: dict[str, Any]
    #: `metrics.jsonl`: one entry an epoch; empty where nothing is trained.
    epochs: list[dict[str, Any]]


def metrics(run: str | os.PathLike[str]) -> dict[str, Stage]:
    """How the stages of a run went: those of `pretrain`, `extract`, `finetune` and `evaluate` that have left something.

    Raises `FileNotFoundError` if there is no run.
    """
    root = Path(run)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: there is no run")
    folders = {"pretrain": "pretrain", "extract": "features", "finetune": "finetune", "evaluate": "evaluate"}
    found = {}
    for stage, name in folders.items():
        summary, lines = root / name / "summary.json", root / name / "metrics.jsonl"
        if summary.exists() or lines.exists():
            found[stage] = Stage(
                summary=json.loads(summary.read_text(encoding="utf-8")) if summary.exists() else {},
                epochs=[json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
                if lines.exists()
                else [],
            )
    return found
