"""`toffee evaluate dreambench`: DreamBench's protocol, or its like in the toy world."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toffee_hf.errors import InputError

if TYPE_CHECKING:
    from toffee_hf.evaluation.dreambench.drawing import Drawer, Located, Sampling
    from toffee_hf.evaluation.dreambench.protocol import Extent, Found, Job
    from toffee_hf.evaluation.dreambench.scoring import Judge, Scored

WHOLE = 30                            # subjects
OUTPUTS = {False: Path("outputs/dreambench"), True: Path("outputs/dreambench-toy")}


def add_dreambench_parser(what: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = what.add_parser("dreambench", help="a pipeline, or ready pictures, by DreamBench's protocol",
                             allow_abbrev=False)
    parser.add_argument("--model", metavar="NAME", help="a diffusers pipeline: a folder or a Hub id")
    parser.add_argument("--ready", type=Path, metavar="DIR", help="pictures, DIR/<subject>/<prompt index>/<n>.png")
    parser.add_argument("--toy", action="store_true", help="held-out toy subjects and the family's own metric models")
    parser.add_argument("--rival", metavar="NAME", help="with --toy: another pipeline to hold the model against")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that a pipeline brings")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a copy of https://github.com/google/dreambooth")
    parser.add_argument("--family", default="tiny", metavar="FAMILY", help="with --toy (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="pictures, result.json and table.md (default: "
                        f"{OUTPUTS[False]}, with --toy {OUTPUTS[True]})")
    for name, whole, of in (("subjects", WHOLE, ""), ("prompts", 25, " a subject"), ("images", 4, " a prompt")):
        parser.add_argument(f"--{name}", type=int, default=whole, metavar="N",
                            help=f"{name}{of}, spread over the whole (default: %(default)s)")
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the pipeline's)")
    parser.add_argument("--guidance", type=float, metavar="W", help="guidance scale (default: the pipeline's)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the pictures (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at a time (default: %(default)s)")
    for name in ("dino", "clip", "segmenter"):
        parser.add_argument(f"--{name}", default="", metavar="DIR", help=f"a copy of the metric model {name}")
    parser.set_defaults(run=evaluate_dreambench)


def evaluate_dreambench(arguments: argparse.Namespace) -> int:
    """Draw what is missing, score it, print the table, and write result and table."""
    _check(arguments)
    output = arguments.output or OUTPUTS[arguments.toy]
    if output.exists() and not output.is_dir():
        raise InputError(f"--output {output} is not a folder")
    if arguments.toy:
        _toy(arguments, output)
    else:
        _photographs(arguments, output)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.batch < 1:
        raise InputError(f"--batch must be at least 1, got {arguments.batch}")
    if arguments.toy and (arguments.ready or arguments.data):
        raise InputError("--toy draws its own subjects: give it --model or nothing, not --ready or --data")
    if arguments.rival and not (arguments.toy and arguments.model):
        raise InputError("--rival is held against --model, with --toy")
    if not arguments.toy and bool(arguments.model) == bool(arguments.ready):
        raise InputError("give --model NAME, a pipeline that draws, or --ready DIR, pictures to score (or --toy)")
    if not arguments.toy and arguments.data is None:
        raise InputError("the photographs are not at hand: give --data DIR, a clone of "
                         "https://github.com/google/dreambooth, or --toy for the benchmark that needs none")


def _photographs(arguments: argparse.Namespace, output: Path) -> None:
    """DreamBench itself. Everything that can lack is looked for before a picture is drawn."""
    from toffee_hf.evaluation.dreambench.drawing import locate_pipeline
    from toffee_hf.evaluation.dreambench.metric_models import open_judge
    from toffee_hf.evaluation.dreambench.protocol import find_pictures, jobs_of, read_dreambench
    from toffee_hf.evaluation.dreambench.scoring import draw_dreambench, dreambench_table, score

    sampling, extent = _sampling(arguments), _extent(arguments)
    subjects = read_dreambench(arguments.data)
    jobs = jobs_of(subjects, extent, arguments.seed)
    found = find_pictures(arguments.ready, jobs) if arguments.ready else None
    judge = open_judge(subjects, arguments.dino, arguments.clip, arguments.segmenter)
    if found is None:
        located = locate_pipeline(arguments.model, arguments.trust_remote_code)
        found = draw_dreambench(subjects, jobs, judge, output / "images", located, sampling, seed=arguments.seed,
                                trusted=arguments.trust_remote_code, batch_size=arguments.batch)
        way, drawn = arguments.model, {**located.identity(), **asdict(sampling), "seed": arguments.seed}
    else:
        way, drawn = str(arguments.ready), {"ready": str(arguments.ready)}
    scored = score(found, judge, arguments.batch)
    facts = {"benchmark": "DreamBench", "drawn": drawn, "metric models": judge.sources}
    given = [name for name in judge.sources if getattr(arguments, name)]
    _conclude(output, {way: scored}, {way: found}, jobs, extent, facts, dreambench_table(way, scored, given))


def _toy(arguments: argparse.Namespace, output: Path) -> None:
    """The benchmark of the toy world."""
    from toffee_hf.evaluation.dreambench.protocol import jobs_of
    from toffee_hf.evaluation.dreambench.toy import MODEL, RIVAL, SUBJECTS, ToyJudge, baselines, toy_bench, toy_table
    from toffee_hf.evaluation.report import open_measured

    sampling, extent = _sampling(arguments), _extent(arguments)
    family = open_measured(arguments.family)
    judge, subjects = ToyJudge(family), toy_bench(SUBJECTS)
    jobs = jobs_of(subjects, extent, arguments.seed)
    models = {name: given for name, given in ((MODEL, arguments.model), (RIVAL, arguments.rival)) if given}
    ways, records = _model_ways(models, sampling, arguments.trust_remote_code)
    own = baselines(family)
    ways |= own
    records |= dict.fromkeys(own, judge.sources["family"])
    found = _drawn(output, jobs, ways, records, arguments.seed, arguments.batch)
    scored = _scored(found, judge, arguments.batch)
    facts = {"benchmark": "toy DreamBench", "seed": arguments.seed, "drawn": records, "metric models": judge.sources}
    _conclude(output, scored, found, jobs, extent, facts, toy_table(scored))


def _model_ways(models: dict[str, str], sampling: Sampling, trusted: bool
                ) -> tuple[dict[str, Drawer], dict[str, dict[str, Any]]]:
    """Drawers of the named pipelines, and what each depends on."""
    from toffee_hf.evaluation.dreambench.drawing import locate_pipeline, open_pipeline
    from toffee_hf.evaluation.dreambench.toy import model_drawers

    ways: dict[str, Drawer] = {}
    records: dict[str, dict[str, Any]] = {}
    for name, given in models.items():
        located: Located = locate_pipeline(given, trusted)
        drawers = model_drawers(name, open_pipeline(located, trusted), sampling)
        ways |= drawers
        records |= dict.fromkeys(drawers, {**located.identity(), **asdict(sampling)})
    return ways, records


def _drawn(output: Path, jobs: list[Job], ways: dict[str, Drawer], records: dict[str, dict[str, Any]], seed: int,
           batch: int) -> dict[str, Found]:
    """All pictures of all ways; a folder of other pictures is refused before any is drawn."""
    from toffee_hf.evaluation.dreambench.drawing import check_record, draw_missing
    from toffee_hf.evaluation.dreambench.protocol import find_pictures
    from toffee_hf.evaluation.dreambench.toy import folder_of

    whole = {way: {**record, "seed": seed} for way, record in records.items()}
    for way, record in whole.items():
        check_record(folder_of(output, way), record)
    for way, drawer in ways.items():
        draw_missing(jobs, folder_of(output, way), drawer, whole[way], batch, f"draw: {way}")
    return {way: find_pictures(folder_of(output, way), jobs) for way in ways}


def _scored(found: dict[str, Found], judge: Judge, batch: int) -> dict[str, Scored]:
    from toffee_hf.evaluation.dreambench.scoring import score

    return {way: score(pictures, judge, batch, f"score: {way}") for way, pictures in found.items()}


def _conclude(output: Path, scored: dict[str, Scored], found: dict[str, Found], jobs: list[Job], extent: Extent,
              facts: dict[str, Any], table: str) -> None:
    from toffee_hf.evaluation.dreambench.scoring import result, shortfall, write_result

    lacks = [f"{way}: {said}" for way, pictures in found.items() if (said := shortfall(pictures, jobs))]
    whole = "\n\n".join([table, *lacks])
    write_result(output, result(scored, found, extent, facts), whole)
    print(f"{whole}\n\nwritten: {output / 'result.json'}, {output / 'table.md'}")


def _sampling(arguments: argparse.Namespace) -> Sampling:
    from toffee_hf.evaluation.dreambench.drawing import Sampling

    return Sampling(arguments.steps, arguments.guidance)


def _extent(arguments: argparse.Namespace) -> Extent:
    from toffee_hf.evaluation.dreambench.protocol import Extent

    return Extent(min(arguments.subjects, WHOLE), arguments.prompts, arguments.images)
