"""The dataset card: a function of receipts and recipe.json. No figure on it comes from anywhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from builder.columns import COLUMNS, MASKS, PICTURES, SCORES, column_names
from builder.reasons import REASONS
from builder.report.ahead import ahead_line
from builder.report.card_metadata import licences, metadata_yaml
from builder.report.markdown import duration, literal, share, size, table
from builder.report.statistics import Statistics
from builder.subjects import SKIP_REASONS
from model_cards import template
from toffee_hf.images import REASONS as PICTURE_REASONS
from toffee_hf.publishing.hub import MAIN

MOST_LINES = 200  # of a list that grows with the input; the rest is counted


def dataset_card(statistics: Statistics, name: str, revision: str = MAIN) -> str:
    """The README.md of an output folder. name, revision: what `load_dataset` is given, the folder's name or a Hub id
    and its branch."""
    title = f"{name.rpartition('/')[2]}: subject-driven image pairs"
    return template("dataset").substitute(
        metadata=metadata_yaml(statistics, title),
        title=literal(title),
        ahead=ahead_line(statistics),
        summary=_summary(statistics),
        load=_load(statistics, name, revision),
        configs=_configs(statistics),
        columns=_columns(statistics),
        verdicts=_verdicts(statistics),
        bill=_bill(statistics),
        runs=_runs(statistics),
        licences=_licences(statistics),
        skipped=_skipped(statistics),
        notes=_notes(statistics),
    )


def _summary(statistics: Statistics) -> str:
    rows = statistics.rows
    if not statistics.tried:
        return "**No pair has been tried yet.**"
    if not statistics.kept:
        return (
            f"**Nothing was kept: all {statistics.tried:,} pairs tried were rejected.** The reasons are below, and the "
            "rejected pairs are rows of the config `rejected`, with every score that was measured."
        )
    kinds = " and ".join(f"{rows[config]:,} for {config}" for config in ("generation", "editing") if config in rows)
    return (
        f"{statistics.kept:,} of {statistics.tried:,} pairs tried were kept "
        f"({share(statistics.kept, statistics.tried)}): {kinds}. A pair is a reference picture of a subject, a prompt, "
        "and a target that shows the same subject as the prompt asks, with masks and scores; an editing pair has also "
        "a source picture and the mask to edit."
    )


def _load(statistics: Statistics, name: str, revision: str) -> str:
    config = next(iter(statistics.rows), "generation")
    others = ", ".join(f'"{other}"' for other in statistics.rows if other != config)
    comment = f"  # or {others}" if others else ""
    branch = "" if revision == MAIN else f", revision={json.dumps(revision)}"
    return (
        "from datasets import load_dataset\n"
        f'pairs = load_dataset({json.dumps(name, ensure_ascii=False)}, "{config}", split="train"{branch}){comment}\n'
        'pairs[0]["prompt"], pairs[0]["reference"], pairs[0]["target"]'
    )


def _configs(statistics: Statistics) -> str:
    lines = []
    for config, rows in statistics.rows.items():
        files = statistics.files(config)
        total = size(sum(file.bytes for file in files))
        lines.append([f"`{config}`", f"{rows:,}", f"{len(files):,}", total])
    pixels = statistics.recipe.get("size_px")
    note = f"\n\nEvery picture and mask is {pixels} x {pixels} pixels. There is one split, `train`." if pixels else ""
    return table(["config", "rows ", "files ", "size "], lines) + note


def _columns(statistics: Statistics) -> str:
    configs = list(statistics.rows)
    lines = []
    for column, meaning in COLUMNS.items():
        holders = [config for config in configs if column in column_names(config)]
        if holders:
            where = "all" if holders == configs else ", ".join(f"`{config}`" for config in holders)
            lines.append([f"`{column}`", _type(column), meaning, where])
    scores = table(["score", "what it measures"], ([f"`{score}`", meaning] for score, meaning in SCORES.items()))
    return f"{table(['column', 'type', 'meaning', 'in'], lines)}\n\nThe fields of `scores`:\n\n{scores}"


def _type(column: str) -> str:
    if column in PICTURES:
        return "image"
    if column in MASKS:
        return "image (L)"
    return {"scores": "struct of float32", "seed": "int64", "attempt": "int32"}.get(column, "string")


def _verdicts(statistics: Statistics) -> str:
    kept = f"Kept: {statistics.kept:,} of {statistics.tried:,} ({share(statistics.kept, statistics.tried)})."
    if not statistics.reasons and not statistics.retried:
        return kept
    both = {**statistics.reasons, **statistics.retried}
    lines = [
        [f"`{reason}`", REASONS.get(reason, ""), f"{statistics.reasons.get(reason, 0):,}",
         share(statistics.reasons.get(reason, 0), statistics.tried), f"{statistics.retried.get(reason, 0):,}"]
        for reason in both
    ]  # fmt: skip
    header = ["reason", "what it says", "rejected ", "of all tried ", "earlier attempts "]
    note = f"\n\n{statistics.attempts:,} attempts were made at {statistics.tried:,} pairs; a row shows the last one."
    return f"{kept}\n\n{table(header, lines)}{note}"


def _bill(statistics: Statistics) -> str:
    total, per_kept = statistics.seconds_total, statistics.seconds_per_kept
    devices = ", ".join(literal(device) for device in statistics.distinct("device")) or "none"
    cpus = ", ".join(literal(cpu) for cpu in statistics.distinct("cpu"))
    each = f"{per_kept:.2f} s per kept pair" if per_kept is not None else "no pair kept"
    line = (
        f"{duration(total)} of one worker ({total / 3600:.3f} worker-hours), {each}. Device: {devices}"
        f"{f' ({cpus})' if cpus else ''}. Several workers at once share this time among them."
    )
    stages = [
        [f"`{literal(stage)}`", duration(seconds), _share_of(seconds, total)]
        for stage, seconds in statistics.seconds.items()
    ]
    return f"{line}\n\n{table(['stage', 'time ', 'share '], stages)}" if stages else line


def _share_of(seconds: float, total: float) -> str:
    """A percentage of seconds; of nothing, a dash."""
    return f"{seconds / total:.0%}" if total else "-"


def _runs(statistics: Statistics) -> str:
    done: dict[str, list[int]] = {}
    for receipt in statistics.receipts:
        counts = done.setdefault(receipt.run8, [0, 0])
        counts[0] += 1
        counts[1] += receipt.pairs
    lines = [_run_line(run, *done.get(run["run8"], [0, 0])) for run in statistics.recipe.get("runs", ())]
    header = ["run", "recipe", "seed ", "subjects", "pictures ", "pairs tried ", "shards "]
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in statistics.versions.items())
    return f"{table(header, lines)}\n\nMade with {literal(versions) or 'no library'}."


def _run_line(run: dict[str, Any], shards: int, pairs: int) -> list[str]:
    return [
        f"`{run['run8']}`",
        literal(run.get("recipe", "")),
        str(run["seed"]),
        _subjects(run.get("subjects", "")),
        f"{run.get('subject_count', 0):,}",
        f"{pairs:,}",
        f"{shards:,}",
    ]


def _subjects(spec: str) -> str:
    """What the subjects were; of a folder its name only, for where it lay is nobody's business."""
    return literal(Path(spec).name if spec.startswith(("/", ".", "~")) else spec)


def _licences(statistics: Statistics) -> str:
    subjects, weights = licences(statistics)
    lines = [["subjects", literal(licence), "the pictures given"] for licence in subjects]
    lines += [[literal(it["name"]), literal(it["licence"]), literal(it["source"])] for it in weights]
    unknown = (
        "\n\n**Nobody has said under which licence the subjects' pictures stand** (`toffee build --license SPDX`): "
        "find out before you pass these pictures on."
    )
    return table(["ingredient", "licence", "source"], lines) + (unknown if "unknown" in subjects else "")


def _skipped(statistics: Statistics) -> str:
    skipped = statistics.left_out
    if not skipped:
        return "None: every picture given could be used."
    lines = [[literal(file), _skip_reason(reason)] for file, reason in skipped[:MOST_LINES]]
    more = len(skipped) - MOST_LINES
    rest = f"\n\nAnd {more:,} more, in `recipe.json` and the receipts." if more > 0 else ""
    return table(["file", "reason"], lines) + rest


def _skip_reason(reason: str) -> str:
    """The sentence of a known code and what was found, else what the index said."""
    code, _, found = reason.partition(": ")
    sentence = {**SKIP_REASONS, **PICTURE_REASONS}.get(code)
    if sentence is None:
        return literal(reason)
    return f"`{code}`: {literal(sentence)}{f' ({literal(found)})' if found else ''}"


def _notes(statistics: Statistics) -> str:
    notes = []
    if statistics.reduced:
        notes.append(
            f"- {len(statistics.reduced):,} shards ran at a reduced batch (memory ran out) and need not be equal byte "
            f"for byte in another run: {literal(', '.join(statistics.reduced[:MOST_LINES]))}."
        )
    if statistics.messages:
        shard, message = statistics.messages[0]
        notes.append(
            f"- {len(statistics.messages):,} messages lie in the receipts; the first, of {shard}: {literal(message)}"
        )
    return "\n".join(notes)
