"""Ctrl-C and SIGTERM say what of the command's work stays, if anything."""

import signal

import pytest

from builder.cli import main

SHARDS = "finished shards stay, and the same command goes on from here"
CHECKPOINT = "the last checkpoint stays, and the same command goes on from here"
AGAIN = "give the command again"
COMMANDS = {
    "build.build": ("build", SHARDS),
    "publish_dataset.publish_dataset": ("publish dataset toffee --to org/name", SHARDS),
    "train.train_tiny": ("train tiny", CHECKPOINT),
    "train_models.train_refiner": ("train refiner --output out", CHECKPOINT),
    "train_models.train_view_generator": ("train view-generator --output out", CHECKPOINT),
    "train_editor.train_editor": ("train editor --data toffee --output out", CHECKPOINT),
    "evaluate_editor.evaluate_ablations": ("evaluate editor-ablations --data toffee --output out", CHECKPOINT),
    "evaluate.evaluate_family": ("evaluate family", AGAIN),
    "plan.plan": ("plan", AGAIN),
    "report.report": ("report toffee", AGAIN),
    "publish_model.publish_model": ("publish model --to org/name", AGAIN),
    "publish_space.publish_space": ("publish space --to org/name", AGAIN),
}


@pytest.mark.parametrize(("number", "how", "status"), [
    (signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)])
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_stays(monkeypatch, capsys, name, number, how, status):
    line, says = COMMANDS[name]

    def stopped(arguments):
        if number == signal.SIGINT:       # which a background job may ignore
            raise KeyboardInterrupt
        signal.raise_signal(number)

    monkeypatch.setattr(f"builder.cli.{name}", stopped)
    assert main(line.split()) == status
    assert capsys.readouterr().err == f"toffee: {how}; {says}\n"
